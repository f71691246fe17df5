"""Jobs in processes of one of Hydra's launchers: what each process executes, and how the launcher is driven."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from dmlbench.config.compose import Composed, register_with_hydra
from dmlbench.config.files import conf_dir
from dmlbench.config.jobs import Job, JobList, job_of_sweep
from dmlbench.results.row import BASELINES
from dmlbench.runs.job_events import EventLog
from dmlbench.runs.runner import Outcome, run_job
from dmlbench.system.leave import leave_after_last_job
from dmlbench.system.parent import end_with_parent
from dmlbench.training import processes

FORWARDED = ("trial ", "tuning ")  # starts of the lines that are shown while a job runs in another process

OnEnd = Callable[[Outcome], None]


def launch_with_hydra(function: Callable[[DictConfig], None], jobs: JobList) -> None:
    """Let Hydra's launcher call a function for each job, in the processes of the launcher.

    Args:
        function: Called with the composed configuration of each job; it is pickled.
        jobs: Jobs, of which the overrides are composed again by Hydra.
    """
    GlobalHydra.instance().clear()
    register_with_hydra()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # without it Hydra prints a traceback and exits with status 1
    flags = ["--multirun", *(["--config-dir", str(jobs.config_dir)] if jobs.config_dir else [])]
    before, sys.argv = sys.argv, ["dmlbench", *jobs.overrides, *_baselines_last(jobs), *flags]
    try:
        hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(function)()
    finally:
        sys.argv = before


def _baselines_last(jobs: JobList) -> list[str]:
    """The losses of a file of `conf/sweep/` as an override, with the short jobs of baselines last, to fill the processes."""
    losses = [loss.strip() for loss in jobs.sweep_params.get("loss", "").split(",")]
    is_plain = all(re.fullmatch(r"[\w-]+", loss) for loss in losses)  # no quotes, and no function of Hydra, such as choice()
    if not is_plain or not set(losses) & set(BASELINES):
        return []
    return [f"loss={','.join(sorted(losses, key=lambda loss: loss in BASELINES))}"]


@dataclass(frozen=True)
class RemoteJob:
    """A job in another process, which reports through an event log.

    Args:
        log: Event log.
        wait: Wait for runs that another process is executing.
        swept: Keys with several values, other than loss and seed.
        parent: Process with which the job's process has to end; None if it may outlive the launching process.
        config_dir: Directory of the user's own configuration files.
        only: Names of the jobs to run; None for all.
        working_directory: Directory to work in.
        path: Directories in which modules are found, as in `sys.path`.
    """

    log: EventLog
    wait: bool
    swept: tuple[str, ...]
    parent: int | None
    config_dir: Path | None = None
    only: frozenset[str] | None = None
    working_directory: str = field(default_factory=os.getcwd)
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def __call__(self, cfg: DictConfig) -> None:
        """Run one job.

        Args:
            cfg: Its composed configuration, as Hydra passes it.
        """
        os.chdir(self.working_directory)
        sys.path.extend(directory for directory in self.path if directory not in sys.path)
        if self.parent not in (None, os.getpid()):  # with one job at a time, joblib uses the launching process
            end_with_parent(self.parent)
            leave_after_last_job()
            _redirect_output(self.log.folder / f"process-{os.getpid()}.log")  # all processes share one terminal
        job = self._job(cfg)
        if self.only is not None and job.name not in self.only:
            return
        with _joined_tasks():
            self._run(job)

    def _run(self, job: Job) -> None:
        def append(**values: str | None) -> None:
            if processes.is_first():
                self.log.append(job=job.name, **values)

        def report(line: str) -> None:
            print(line, flush=True)
            if line.startswith(FORWARDED):
                append(line=line)

        append()
        outcome = run_job(job, self.wait, report, lambda folder: append(started=str(folder)))
        folder = str(outcome.folder) if outcome.folder else None
        tuned = None if outcome.tuned is None else json.dumps(dict(outcome.tuned))
        append(status=outcome.status, folder=folder, error=outcome.error, tuned=tuned)

    def _job(self, cfg: DictConfig) -> Job:
        hydra_config = HydraConfig.get()
        choices = {str(group): str(name) for group, name in hydra_config.runtime.choices.items()}
        overrides = tuple(str(one) for one in hydra_config.overrides.task)
        own = OmegaConf.create(cfg)
        with open_dict(own):
            own.pop("hydra", None)
        return job_of_sweep(Composed(own, choices, overrides, self.config_dir), self.swept)


@contextmanager
def _joined_tasks() -> Iterator[None]:
    """Join the tasks of this job of submitit, such as one per GPU, if it has several."""
    if os.environ.get("SUBMITIT_EXECUTOR"):
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        if JobEnvironment().num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
            with processes.joined():
                yield
            return
    yield


def _redirect_output(file: Path) -> None:
    """Send everything that this process prints to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def reason_of(error: Exception) -> str:
    """Return the first sentence of an error, on one line.

    Args:
        error: The error.
    """
    return re.sub(r"\s+", " ", str(error)).partition(". ")[0] or type(error).__name__
