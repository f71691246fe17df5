"""Memory that a process frees stays with it, and its peak is its own."""

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


PEAKS = """
from dmlbench.system.memory import peak_memory_bytes

before = peak_memory_bytes()
held = bytearray(b"x" * (before + 64 * 2**20))
with_held = peak_memory_bytes()
del held
print(before, with_held, peak_memory_bytes())
"""


def test_the_peak_of_the_memory_grows_with_what_was_held_at_the_same_time() -> None:
    found = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)  # a small process
    before, with_held, after = map(int, found.stdout.split())
    assert with_held > before + 48 * 2**20
    assert after == with_held


PEAK_OF_LATER_PART = """
import numpy as np
from dmlbench.system.memory import begin_peak, keep_freed_memory, peak_memory_bytes

keep_freed_memory()
kept = [np.ones(2**21) for _ in range(16)]  # 256 MiB
before = peak_memory_bytes()
del kept
begin_peak()
print(before, peak_memory_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot forget a peak")
def test_a_new_peak_counts_nothing_that_was_freed_before() -> None:
    found = subprocess.run([sys.executable, "-c", PEAK_OF_LATER_PART], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert before > 256 * 2**20
    assert after < before - 200 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems report the peak of the process that started this one")
def test_the_peak_of_a_process_does_not_begin_with_that_of_its_parent() -> None:
    code = "from dmlbench.system.memory import peak_memory_bytes; print(peak_memory_bytes())"
    parent = f"import subprocess, sys; held = b'x' * 300 * 2**20; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    found = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 2**20 < int(found.stdout) < 200 * 2**20
