"""Run a command in a process that is forked from this one, so that it need not import torch again, and wait for its jobs."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .faults import Fault
from .injector import Injector
from .kinds import Kind

TIMEOUT_S = 600
ORPHANS_S = 20  # jobs notice within a second that their command was killed
DAEMONS_S = 15  # for the processes of ray and submitit, some of which never end
_PR_SET_CHILD_SUBREAPER = 36
_NEW_INTERPRETER = Path(__file__).parent / "new_interpreter"


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        status: Its exit status; negative if a signal ended it.
        output: What it printed.
        fault: The event at which the fault happened; None if it did not.
        traces: Events of the process of the command, and of each other process.
        problems: Processes that did not end.
    """

    status: int
    output: str
    fault: str | None
    traces: dict[str, list[str]]
    problems: tuple[str, ...]


def start_command(kind: Kind, folder: Path, control: Path, fault: Fault) -> multiprocessing.process.BaseProcess:
    """Start a command with a fault.

    Args:
        kind: The kind of command.
        folder: Its working directory.
        control: Directory of output and traces. It is created if it does not exist.
        fault: The fault.
    """
    control.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_execute, args=(kind, folder, control, fault))
    process.start()
    return process


def run_command(kind: Kind, folder: Path, control: Path, fault: Fault) -> Ended:
    """Run a command with a fault, and wait for all processes that it has started.

    Args:
        kind: The kind of command.
        folder: Its working directory.
        control: New directory for output and traces.
        fault: The fault.
    """
    adopt_orphans()
    process = start_command(kind, folder, control, fault)
    process.join(TIMEOUT_S)
    problems = []
    if process.exitcode is None:
        problems.append(f"the command did not end within {TIMEOUT_S} s")
        process.kill()
        process.join()
    left = wait_for_orphans(ORPHANS_S if kind.needs in (None, "joblib") else DAEMONS_S)
    if kind.needs in (None, "joblib"):  # jobs of other launchers may outlive their command
        problems += left
    status = process.exitcode
    assert status is not None
    return Ended(status, read_text(control / "output"), fault_event(control), traces(control), tuple(problems))


def fault_event(control: Path) -> str | None:
    """Return the event at which the fault of a command happened; None if it did not.

    Args:
        control: Directory of its traces.
    """
    return read_text(control / "killed") or read_text(control / "full") or None


def traces(control: Path) -> dict[str, list[str]]:
    """Return the events of each process: those of the command under `command`.

    Args:
        control: Directory of the traces.
    """
    found = {file.stem: file.read_text(errors="replace").splitlines() for file in sorted(control.glob("*.trace"))}
    return {("command" if name.startswith("command") else name): events for name, events in found.items()}


def read_text(file: Path) -> str:
    """Return the text of a file; empty if it does not exist.

    Args:
        file: The file.
    """
    return file.read_text(errors="replace") if file.exists() else ""


def _execute(kind: Kind, folder: Path, control: Path, fault: Fault) -> None:
    """Run the command in this process, which was forked for it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    output = os.open(control / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    faulthandler.enable()
    os.chdir(folder)
    if kind.new_interpreters:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(_NEW_INTERPRETER), *filter(None, [os.environ.get("PYTHONPATH")])])
    if kind.forked_jobs:
        _fork_jobs()
    from dmlbench.cli import run

    Injector(folder, control, fault, os.getpid()).install()
    status = run([*kind.command])
    sys.stdout.flush()
    if kind.needs == "joblib":
        _end_joblib(kill=kind.forked_jobs)
    if kind.needs == "ray":
        import ray

        ray.shutdown()  # which it does at the end of an interpreter, and this process is a fork
    sys.exit(status)


def _fork_jobs() -> None:
    """Let joblib fork the processes of its jobs."""
    import warnings

    from joblib.externals.loky.backend import context

    warnings.filterwarnings("ignore", "`fork` start method should not be used")
    context.set_start_method("fork", force=True)


def _end_joblib(kill: bool) -> None:
    """End joblib's idle processes. At the end of an interpreter this happens by itself, but this process is a fork."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=kill)


def adopt_orphans() -> None:
    """Become the parent of processes whose parent ends, so that `wait_for_orphans` sees them. Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans(seconds: float) -> list[str]:
    """Wait until all processes have ended that this one has adopted. Kill those that do not end.

    Args:
        seconds: Time that they have.

    Returns:
        A sentence for each process that had to be killed.
    """
    end = time.monotonic() + seconds
    while _reap():
        if time.monotonic() > end:
            left = _children()
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.5)
            _reap()
            return [f"process {process} did not end within {seconds:.0f} s after its command" for process in left]
        time.sleep(0.02)
    return []


def _reap() -> bool:
    """Collect the processes that have ended. Returns whether others are left."""
    while True:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if process == 0:
            return True


def _children() -> Sequence[int]:
    file = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return [int(process) for process in read_text(file).split()]
