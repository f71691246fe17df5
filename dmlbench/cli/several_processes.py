"""Commands that torchrun starts in several processes: only the first one prints, except for the errors of others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

from dmlbench.errors import UserError

if TYPE_CHECKING:
    from dmlbench.config.jobs import JobList

T = TypeVar("T")


def started_by_torchrun() -> bool:
    """Return whether the environment describes several processes of one command, and which of them this is."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def agreed(function: Callable[[], T], facts: Callable[[T], Mapping[str, Any]]) -> T:
    """Call a function, in every process if there are several. An error of the user in one of them is that of all.

    Args:
        function: Function without arguments.
        facts: Returns what must be equal in all processes, from the result of the function.
    """
    if not started_by_torchrun():
        return function()
    from dmlbench.training import processes

    return processes.agreed(function, facts)


def facts_of_jobs(job_lists: Sequence[JobList]) -> dict[str, Any]:
    """Return what must be equal in all processes before the first job starts.

    Args:
        job_lists: Jobs of a command.
    """
    names = [job.name for one in job_lists for job in one.jobs]
    return {"number of jobs": len(names), "list of jobs": names}


def run_together(command: str, allowed: Collection[str], function: Callable[[], int]) -> int:
    """Run a command in this process, as one of several.

    Args:
        command: Name of the command.
        allowed: Commands that can run in several processes.
        function: Runs the command, and returns its exit status.

    Returns:
        The exit status.

    Raises:
        UserError: The command cannot run in several processes.
    """
    is_first, errors = os.environ.get("RANK") == "0", sys.stderr
    if command not in allowed and not is_first:
        return 2
    if command not in allowed:
        raise UserError(f"dmlbench {command} runs in one process; start it without torchrun")
    from dmlbench.training import processes

    try:
        with processes.joined(), ExitStack() as silenced:
            if not processes.is_first():
                nowhere = silenced.enter_context(open(os.devnull, "w"))
                silenced.enter_context(redirect_stdout(nowhere))
                silenced.enter_context(redirect_stderr(nowhere))
            status = function()
            return processes.on_first(lambda: status)
    except processes.AgreedError:
        if is_first:
            raise
        return 2
    except processes.EndedProcess as ended:
        print(f"dmlbench: process {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}: {ended}", file=errors)
        return ended.status
