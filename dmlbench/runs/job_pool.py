"""Jobs in other processes, which are restarted if a process is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import cast

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from dmlbench.config.jobs import JobList
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.row_files import read_row
from dmlbench.runs.job_events import Event
from dmlbench.runs.remote_job import OnEnd, RemoteJob, launch_with_hydra, reason_of
from dmlbench.runs.runner import Outcome, Report, Status

MAX_LOST = 2  # restarts of one job, and launches in a row in which no job starts


class JobPool:
    """All jobs of a launcher, over all attempts to run them.

    If a process is lost, the launcher drops all jobs. Those that were running are then run again one at a time, which shows
    which of them ends its own process (out of memory, for example). The jobs that had not started follow.

    Args:
        jobs: Jobs to run.
        remote_job: What each process executes.
        report: Prints a line.
        on_end: Called with the outcome of every job.
        only: Names of the jobs to run; None for all.
    """

    def __init__(
        self, jobs: JobList, remote_job: RemoteJob, report: Report, on_end: OnEnd, only: Container[str] | None = None
    ) -> None:
        self.jobs, self.remote_job, self.report, self.on_end = jobs, remote_job, report, on_end
        self.names = [job.name for job in jobs.jobs if only is None or job.name in only]
        self.running: dict[str, Path | None] = {}  # with the run directory, once the run has started
        self.ended: dict[str, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Launch the jobs until each has ended.

        Returns:
            One outcome per job.
        """
        attempts = 0
        while left := [name for name in self.names if name not in self.ended]:
            reason = self._attempt(left)
            if reason is None:
                break
            suspects = list(self.running)
            for name in suspects:
                self._run_alone(name)
            attempts = 0 if suspects else attempts + 1
            if attempts > MAX_LOST:
                for name in left:
                    self._end(Outcome("crash", name, error=f"its process was lost before it started: {reason}"))
        return list(self.ended.values())

    def _attempt(self, names: Sequence[str]) -> str | None:
        """Launch some of the jobs. Returns why a process was lost, or None."""
        self.running.clear()
        try:
            with self.remote_job.log.following(self._handle):
                launch_with_hydra(replace(self.remote_job, only=frozenset(names)), self.jobs)
        except Exception as lost:
            reason = reason_of(lost)
            if not self.running and not self.ended and not isinstance(lost, BrokenProcessPool):
                _raise_start_error(lost, reason, self.jobs)
            return reason
        return None

    def _run_alone(self, name: str) -> None:
        """Run one job whose process was lost, without other jobs that could be lost with it."""
        folder, reason = self.running.get(name), None
        for _ in range(MAX_LOST):
            self.report(f"{name}: its process was lost; running it again on its own")
            reason = self._attempt([name])
            folder = self.running.get(name) or folder
            if reason is None or name in self.ended:
                return
        self._end(Outcome("crash", name, folder, error=f"its process was lost {MAX_LOST + 1} times: {reason}"))

    def _handle(self, event: Event) -> None:
        """Process an event of a job."""
        name = str(event["job"])
        if "line" in event:
            self.report(f"{name}: {event['line']}")
        elif "started" in event:
            self.running[name] = Path(str(event["started"]))
        elif "status" not in event:
            self.running[name] = None
            self.report(f"{name}: started")
        elif name not in self.ended or self.ended[name].status == "locked":  # it may have ended in a previous attempt
            folder = Path(str(event["folder"])) if event["folder"] else None
            row = read_row(folder / run_files.ROW) if folder and event["status"] in ("done", "skipped") else None
            error = None if event["error"] is None else str(event["error"])
            tuned = json.loads(str(event["tuned"])) if event["tuned"] else None
            self._end(Outcome(cast(Status, event["status"]), name, folder, row, error, tuned))

    def _end(self, outcome: Outcome) -> None:
        self.running.pop(outcome.job, None)
        self.ended[outcome.job] = outcome
        self.on_end(outcome)


def _raise_start_error(error: Exception, reason: str, jobs: JobList) -> None:
    if isinstance(error, HydraException | OmegaConfBaseException | UserError):
        raise error  # the overrides do not compose
    missing = re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_(\w+?)_launcher", reason)
    if missing:
        raise UserError(
            f"hydra/launcher={jobs.launcher} needs a package that is not installed: pip install 'dmlbench[{missing[1]}]'"
        ) from error
    raise UserError(f"the launcher cannot start: {reason}") from error
