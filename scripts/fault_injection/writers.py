"""Several processes that run the same sweep at the same time, some of which are killed."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections import Counter
from pathlib import Path

from .campaign import Attempt, Prepared
from .checks import check_after, read_contents
from .faults import Fault
from .processes import (
    ORPHANS_S,
    TIMEOUT_S,
    adopt_orphans,
    fault_event,
    read_text,
    run_command,
    start_command,
    traces,
    wait_for_orphans,
)

_PATTERN = re.compile(r"writers=(\d+),seed=(\d+)(?:,victims=(\d+))?")


def parse_writers(text: str) -> tuple[int, int, int] | None:
    """Parse `writers=8,seed=3,victims=2`.

    Args:
        text: What may be such a description.

    Returns:
        The three numbers; None if it is something else.
    """
    match = _PATTERN.fullmatch(text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))


def share(prepared: Prepared, n: int, seed: int, victims: int, folder: Path, keep: bool = False) -> Attempt:
    """Let several processes run the same command in the same directory at the same time.

    Args:
        prepared: The command.
        n: Number of processes.
        seed: Seed of the delays between their starts, and of the events at which some of them are killed.
        victims: How many are killed.
        folder: Empty directory to work in.
        keep: Whether the directory is kept if something was wrong.
    """
    began, generator = time.monotonic(), random.Random(seed)
    work, controls = folder / "work", [folder / f"control{i}" for i in range(n)]
    shutil.copytree(prepared.template, work)
    faults = [Fault("kill", generator.randint(1, len(prepared.events))) if i < victims else Fault() for i in range(n)]
    adopt_orphans()
    processes = []
    for control, fault in zip(controls, faults, strict=True):
        processes.append(start_command(prepared.kind, work, control, fault))
        time.sleep(generator.choice((0, 0, 0.05, 0.3)))
    for process in processes:
        process.join(max(1, began + TIMEOUT_S - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()
    killed = [event for control in controls if (event := fault_event(control))]
    problems = wait_for_orphans(ORPHANS_S)
    for process, control in zip(processes, controls, strict=True):
        output = read_text(control / "output")
        if fault_event(control) is None and (process.exitcode or "Traceback" in output):
            problems.append(f"a process ended with status {process.exitcode}: {output[-600:].strip()}")
    before = read_contents(work)
    if len(killed) < n:  # a process that was not killed has waited for all runs
        problems += [f"lost: {name}" for name in sorted(set(prepared.expected.rows) - set(before.rows))]
    ended = run_command(prepared.kind, work, folder / "control", Fault())
    problems += [*ended.problems, *check_after(read_contents(work), prepared.expected, before)]
    problems += _written_again([*controls, folder / "control"], killed)
    if not (keep and problems):
        shutil.rmtree(folder, ignore_errors=True)
    text = f"writers={n},seed={seed},victims={victims}"
    return Attempt(prepared.kind.name, text, tuple(killed), len(killed), tuple(problems), time.monotonic() - began)


def _written_again(controls: list[Path], killed: list[str]) -> list[str]:
    """The rows that were written more than once, by whichever process."""
    events = Counter(event for control in controls for part in traces(control).values() for event in part)
    events.subtract(killed)  # these did not happen
    return [f"doubled: {event} happened {n} times" for event, n in events.items() if n > 1 and _is_row(event)]


def _is_row(event: str) -> bool:
    return event.startswith("rename ") and event.endswith("/row.json")
