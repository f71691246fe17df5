"""Time functions and processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]


def alternate(rounds: int, **sides: Callable[[], float]) -> dict[str, float]:
    """Measure several sides in turn.

    Args:
        rounds: Number of measured rounds; one unmeasured round comes first.
        sides: Functions that return their seconds.

    Returns:
        Median seconds of each side.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            took = side()
            if number:
                seconds[name].append(took)
    return {name: statistics.median(values) for name, values in seconds.items()}


def wall_seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds of a function.

    Args:
        work: Function to measure.
    """
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cpu_seconds(command: Sequence[str]) -> float:
    """Return the CPU seconds of a process, start-up included; other work on the machine hardly affects them.

    Args:
        command: Program and arguments.
    """
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure_in_process(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run a module of this package in a new process.

    Args:
        module: Name of the module.
        arguments: Its arguments.
        environment: Additional environment variables.

    Returns:
        The JSON object in the last line that it prints.
    """
    paths = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
