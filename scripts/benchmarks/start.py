"""Start-up of `dmlbench --help`, relative to a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks.timing import alternate, wall_seconds


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the start-up times and their ratio.

    Args:
        quick: Use fewer rounds.
        overrides: Not used.
    """
    took = alternate(2 if quick else 20, bare=_process("-c", "pass"), help=_process("-m", "dmlbench", "--help"))
    print(f"start   bare {took['bare'] * 1e3:.1f} ms, dmlbench --help {took['help'] * 1e3:.1f} ms")
    print(f"start   ratio {took['help'] / took['bare']:.2f} (at most 5)")


def _process(*arguments: str) -> Callable[[], float]:
    command = [sys.executable, *arguments]
    return lambda: wall_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
