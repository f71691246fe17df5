"""Execution of jobs, one after the other in this process or through one of Hydra's launchers in other processes."""

from __future__ import annotations

import os
from collections.abc import Container

from dmlbench.config.jobs import BASIC_LAUNCHER, JobList
from dmlbench.runs.job_events import EventLog
from dmlbench.runs.job_pool import JobPool
from dmlbench.runs.remote_job import OnEnd, RemoteJob
from dmlbench.runs.runner import Outcome, Report, run_job
from dmlbench.system.signals import raise_on_signals
from dmlbench.training import processes


def run_jobs(jobs: JobList, wait: bool, report: Report, on_end: OnEnd, only: Container[str] | None = None) -> list[Outcome]:
    """Run jobs, with the launcher that their overrides chose.

    Args:
        jobs: Jobs to run.
        wait: Wait for runs that another process is executing; otherwise they end as `locked`.
        report: Prints a line.
        on_end: Called with the outcome of every job as it ends.
        only: Names of the jobs to run; None for all.

    Returns:
        One outcome per job.

    Raises:
        UserError: The launcher cannot start.
    """
    raise_on_signals()
    if jobs.launcher != BASIC_LAUNCHER and processes.count() > 1:
        raise processes.AgreedError(
            f"hydra/launcher={jobs.launcher} starts processes of its own; start this command without torchrun, or leave it out"
        )
    if jobs.launcher != BASIC_LAUNCHER:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Nothing else ends the processes of joblib. Jobs of other launchers may outlive this process.
        parent = os.getpid() if jobs.launcher == "joblib" else None
        with EventLog.opened(jobs.runs_dir.absolute() / ".sweep") as log:
            return JobPool(jobs, RemoteJob(log, wait, jobs.swept, parent, jobs.config_dir), report, on_end, only).run()
    outcomes = []
    for job in jobs.jobs:
        if only is None or job.name in only:
            outcomes.append(run_job(job, wait, report))
            on_end(outcomes[-1])
    return outcomes
