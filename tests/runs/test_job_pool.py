"""What happens to the jobs of a launcher if processes are lost, with a launcher that is simulated in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

import pytest

from dmlbench.config.jobs import Job, JobList
from dmlbench.errors import UserError
from dmlbench.runs.job_events import EventLog
from dmlbench.runs.job_pool import MAX_LOST, JobPool
from dmlbench.runs.remote_job import RemoteJob
from dmlbench.runs.runner import Outcome


class ProcessLostError(Exception):
    """The simulated error of a launcher that has lost a process."""


class SimulatedLauncher:
    """Runs jobs in order until one of them loses its process.

    Args:
        dies: Job name to how often its process is lost.
        starts_before: Jobs that have started, but not ended, when the job with this key is lost.
    """

    def __init__(self, dies: dict[str, int], starts_before: dict[str, list[str]] | None = None) -> None:
        self.dies, self.starts_before = Counter(dies), starts_before or {}
        self.launches: list[list[str]] = []

    def __call__(self, remote_job: RemoteJob, jobs: JobList) -> None:
        chosen = [job.name for job in jobs.jobs if remote_job.only is None or job.name in remote_job.only]
        self.launches.append(chosen)
        for name in chosen:
            remote_job.log.append(job=name)
            if self.dies[name]:
                self.dies[name] -= 1
                for other in self.starts_before.get(name, []):
                    if other in chosen:
                        remote_job.log.append(job=other)
                raise ProcessLostError(f"{name} was killed. More text.")
            remote_job.log.append(job=name, line=f"trial 1 of {name}")
            remote_job.log.append(job=name, status="tuned", folder=None, error=None, tuned=None)


@pytest.fixture
def run_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[Outcome], list[str]]]:
    """Run a pool of jobs on a simulated launcher; return the outcomes and the reported lines."""

    def run(
        launcher: Callable[..., Any], names: Iterable[str], only: set[str] | None = None
    ) -> tuple[list[Outcome], list[str]]:
        monkeypatch.setattr("dmlbench.runs.job_pool.launch_with_hydra", launcher)
        jobs = JobList((), tuple(Job(name, cast(Any, None)) for name in names), launcher="joblib")
        remote_job = RemoteJob(EventLog(tmp_path / "log"), wait=False, swept=(), parent=None)
        lines: list[str] = []
        ended: list[Outcome] = []
        outcomes = JobPool(jobs, remote_job, lines.append, ended.append, only).run()
        assert outcomes == ended
        return outcomes, lines

    return run


def test_jobs_are_launched_together_and_report_their_start_and_their_trials(run_pool: Callable[..., Any]) -> None:
    launcher = SimulatedLauncher({})
    outcomes, lines = run_pool(launcher, "ab")
    assert launcher.launches == [["a", "b"]]
    assert [(one.job, one.status) for one in outcomes] == [("a", "tuned"), ("b", "tuned")]
    assert lines == ["a: started", "a: trial 1 of a", "b: started", "b: trial 1 of b"]


def test_only_the_requested_jobs_are_launched(run_pool: Callable[..., Any]) -> None:
    launcher = SimulatedLauncher({})
    outcomes, _ = run_pool(launcher, "abc", only={"b"})
    assert launcher.launches == [["b"]]
    assert [one.job for one in outcomes] == ["b"]


def test_jobs_that_were_running_when_a_process_was_lost_are_run_alone_before_the_others_are_launched_again(
    run_pool: Callable[..., Any],
) -> None:
    launcher = SimulatedLauncher({"b": 1}, starts_before={"b": ["c"]})
    outcomes, lines = run_pool(launcher, "abcd")
    assert launcher.launches == [["a", "b", "c", "d"], ["b"], ["c"], ["d"]]
    assert [(one.job, one.status) for one in outcomes] == [(name, "tuned") for name in "abcd"]
    assert [line for line in lines if "lost" in line] == [
        f"{name}: its process was lost; running it again on its own" for name in "bc"
    ]


def test_a_job_that_always_loses_its_process_crashes_after_three_attempts_and_the_others_run(
    run_pool: Callable[..., Any],
) -> None:
    launcher = SimulatedLauncher({"a": 99})
    outcomes, _ = run_pool(launcher, "ab")
    assert launcher.launches == [["a", "b"], *[["a"]] * MAX_LOST, ["b"]]
    by_job = {one.job: one for one in outcomes}
    assert by_job["a"].status == "crash"
    assert by_job["a"].error == "its process was lost 3 times: a was killed"
    assert by_job["b"].status == "tuned"


def test_processes_that_are_lost_before_any_job_starts_are_launched_again_three_times(run_pool: Callable[..., Any]) -> None:
    launches = 0

    def launcher(*_: object) -> None:
        nonlocal launches
        launches += 1
        raise BrokenProcessPool("out of memory")

    outcomes, _ = run_pool(launcher, "ab")
    assert launches == MAX_LOST + 1
    assert [one.error for one in outcomes] == ["its process was lost before it started: out of memory"] * 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("No partition gpu. See the log.", "the launcher cannot start: No partition gpu"),
        (
            "Unknown plugin class : 'hydra_plugins.hydra_submitit_launcher.X'",
            "hydra/launcher=joblib needs a package that is not installed: pip install 'dmlbench[submitit]'",
        ),
    ],
)
def test_a_launcher_that_cannot_start_is_an_error_of_the_user(text: str, sentence: str, run_pool: Callable[..., Any]) -> None:
    def launcher(*_: object) -> None:
        raise RuntimeError(text)

    with pytest.raises(UserError) as error:
        run_pool(launcher, "ab")
    assert str(error.value) == sentence
