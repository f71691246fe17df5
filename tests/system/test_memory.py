"""Memory that a process frees stays with it."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from dmlbench.system.memory import keep_freed_memory

STEPS = """
import resource, sys
import numpy as np
from dmlbench.system.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()


def step():
    kept = [np.empty(2**21, np.uint8) for _ in range(20)]  # 40 MiB, of which every page is written
    for one in kept:
        one.fill(1)


step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_pages_of_freed_memory_are_not_requested_from_the_system_again() -> None:
    faults = {
        kept: int(subprocess.run([sys.executable, "-c", STEPS, kept], capture_output=True, text=True, check=True).stdout)
        for kept in ("keep", "return")
    }
    pages = 10 * 40 * 2**20 // resource.getpagesize()
    assert faults["keep"] < pages / 20
    assert faults["return"] > pages / 4, "the default of the C library has changed, so this function is not needed"
