"""Plan the attempts of a campaign, and run them.

An attempt runs a command with one or several faults after each other, then once without a fault, and compares everything
that it has left with what an undisturbed command leaves.
"""

from __future__ import annotations

import contextlib
import io
import math
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from .checks import Contents, check_after, check_during, read_contents
from .faults import Fault
from .kinds import KINDS, Kind, make_template, warm_up
from .processes import Ended, run_command

_MTIMES = (0, 1, 946_684_800, 4_102_444_800)  # 1970, 2000 and 2100


@dataclass(frozen=True)
class Prepared:
    """A kind of command, what it finds, and what it leaves if it is not disturbed.

    Args:
        kind: The kind.
        template: Directory that it finds; each attempt works in a copy.
        expected: What it leaves.
        events: Its file-system events.
        job_events: The events of the process of a job that has most of them.
        seconds: How long it takes.
        problems: Why it cannot be used: it failed, or two executions differ.
    """

    kind: Kind
    template: Path
    expected: Contents
    events: tuple[str, ...]
    job_events: tuple[str, ...]
    seconds: float
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Attempt:
    """A disturbed command, and what was wrong after it.

    Args:
        kind: Name of the kind.
        fault: Its faults, as on the command line of the campaign.
        happened: The events at which the faults happened.
        kills: Number of processes that were killed.
        problems: What was wrong; empty if nothing was.
        seconds: How long the attempt took.
    """

    kind: str
    fault: str
    happened: tuple[str, ...]
    kills: int
    problems: tuple[str, ...]
    seconds: float


class Workplace:
    """A temporary directory, and processes in which attempts run.

    Args:
        names: Kinds of the commands.
        jobs: Number of attempts at the same time.
        keep: Whether directories of attempts with problems are kept.
    """

    def __init__(self, names: Collection[str], jobs: int = 1, keep: bool = False) -> None:
        self.names, self.jobs, self.keep = names, jobs, keep
        self.folder = Path(tempfile.mkdtemp(prefix="dmlbench-campaign-")).resolve()

    def __enter__(self) -> Workplace:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import torch

        torch.set_num_threads(1)  # threads would not survive a fork
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warm_up(self.folder / "warm-up", self.names if self._in_process else KINDS)
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(self.jobs, mp_context=context)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _in_process(self) -> bool:
        return not any(KINDS[name].has_jobs for name in self.names)

    def prepare(self, executions: int = 2) -> dict[str, Prepared]:
        """Run the commands undisturbed.

        Args:
            executions: How often; all executions have to leave the same.
        """
        futures = {name: self._pool.submit(_prepare, KINDS[name], self.folder / name, executions) for name in self.names}
        return {name: future.result() for name, future in futures.items()}

    def run(
        self, attempts: Sequence[tuple[Callable[..., Attempt], tuple[object, ...]]], minutes: float = math.inf
    ) -> Iterator[Attempt]:
        """Run attempts; yield each as it ends.

        Args:
            attempts: Function and arguments of each; the function also receives the directory to work in, and `keep`.
            minutes: After this time, no further attempt is started.
        """
        end, futures = time.monotonic() + 60 * minutes, []
        for number, (function, arguments) in enumerate(attempts):
            folder = Path(tempfile.mkdtemp(prefix=f"{number:05d}-", dir=self.folder))
            futures.append(self._pool.submit(function, *arguments, folder, self.keep))
        for future in as_completed(futures):
            if not future.cancelled():
                yield future.result()
            if time.monotonic() > end:
                for one in futures:
                    one.cancel()


def _prepare(kind: Kind, folder: Path, executions: int) -> Prepared:
    with contextlib.redirect_stdout(io.StringIO()):
        make_template(kind, folder / "template")
    found: list[Contents] = []
    began = time.monotonic()
    for i in range(executions):
        shutil.copytree(folder / "template", folder / f"undisturbed{i}")
        ended = run_command(kind, folder / f"undisturbed{i}", folder / f"control{i}", Fault())
        found.append(read_contents(folder / f"undisturbed{i}"))
    problems = list(ended.problems)
    if ended.status:
        problems.append(f"it ended with status {ended.status}: {ended.output[-2000:]}")
    problems += check_after(found[-1], found[0], None)
    jobs = [events for name, events in ended.traces.items() if name != "command"]
    return Prepared(
        kind,
        folder / "template",
        found[0],
        tuple(ended.traces.get("command", ())),
        tuple(max(jobs, key=len, default=())),
        (time.monotonic() - began) / executions,
        tuple(problems),
    )


def disturb(prepared: Prepared, faults: Sequence[Fault], folder: Path, keep: bool = False) -> Attempt:
    """Run a command with faults, then without, and check what it has left.

    Args:
        prepared: The command.
        faults: One per execution.
        folder: Empty directory to work in.
        keep: Whether the directory is kept if something was wrong.
    """
    began, problems, happened, kills = time.monotonic(), [], [], 0
    work, before = folder / "work", None
    shutil.copytree(prepared.template, work)
    for number, fault in enumerate(faults):
        ended = run_command(prepared.kind, work, folder / f"control{number}", fault)
        before = read_contents(work)
        problems += [*_problems_of(ended, fault), *check_during(before, prepared.expected)]
        if ended.fault:
            happened.append(ended.fault)
            kills += fault.action != "full"
        if fault.clock is not None:
            _change_times(work, fault.clock)
    last = Fault(clock=None if faults[-1].clock is None else faults[-1].clock + 1)
    ended = run_command(prepared.kind, work, folder / "control", last)
    if ended.status:
        problems.append(f"the command without a fault ended with status {ended.status}: {ended.output[-600:].strip()}")
    problems += [
        *ended.problems,
        *check_after(read_contents(work), prepared.expected, None if prepared.kind.repeats else before),
    ]
    _clean(folder, keep and bool(problems))
    text = "+".join(map(str, faults))
    return Attempt(prepared.kind.name, text, tuple(happened), kills, tuple(problems), time.monotonic() - began)


def _problems_of(ended: Ended, fault: Fault) -> list[str]:
    """What is wrong with how a disturbed command ended."""
    problems = list(ended.problems)
    if "Traceback (most recent call last)" in ended.output:
        problems.append(f"traceback: {ended.output[ended.output.rindex('Traceback') :].strip().splitlines()[-1]}")
    if fault.target == "command" and ended.fault is None and ended.status:
        problems.append(f"status {ended.status} without a fault: {ended.output[-600:].strip()}")
    return problems


def _change_times(folder: Path, seed: int) -> None:
    """Give every file a wrong time of modification."""
    generator = random.Random(seed)
    for path in sorted(folder.rglob("*")):
        moment = generator.choice(_MTIMES)
        os.utime(path, (moment, moment))


def _clean(folder: Path, keep: bool) -> None:
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
