"""Sweeps that are killed, that two processes run at the same time, and that wait for each other's runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import TINY, finish, rows_by_loss, start, table_of, write_mortal_loss

from dmlbench.cli import run
from dmlbench.results.row_files import find_rows
from dmlbench.runs import launcher
from dmlbench.system.locks import locked

LOSSES = ("raw_pixels", "untrained", "contrastive", "mortal", "arcface")
SWEEP = ["sweep", f"loss={','.join(LOSSES)}", *TINY]


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty directory, and restore the search path of modules after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the rows of the sweep, run without disturbance in this process."""
    directory = tmp_path_factory.mktemp("undisturbed")
    options = write_mortal_loss(directory, dies=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert run([*SWEEP, *options]) == 0
    assert set(rows_by_loss(directory)) == set(LOSSES)
    return directory


def same_as_undisturbed(directory: Path, undisturbed: Path) -> None:
    """Assert that the rows and the table of a directory equal those of the undisturbed sweep."""
    assert set(rows_by_loss(directory)) == set(LOSSES)
    for loss, row in rows_by_loss(undisturbed).items():
        assert rows_by_loss(directory)[loss].outcome == row.outcome
    assert table_of(directory) == table_of(undisturbed)


def test_a_killed_sweep_skips_finished_runs_resumes_the_interrupted_one_and_ends_with_the_same_table(
    tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*SWEEP, *write_mortal_loss(tmp_path)]
    finish(start(tmp_path, *argv), status=-signal.SIGKILL)
    assert set(rows_by_loss(tmp_path)) == {"raw_pixels", "untrained", "contrastive"}
    [checkpoint] = tmp_path.glob("runs/synthetic/mortal/*/checkpoint.pt")
    before = {path: path.stat().st_mtime_ns for path in find_rows(tmp_path / "runs")}

    assert run(argv) == 0

    assert capsys.readouterr().out.count("already done") == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    resumed = {loss: row["n_resumed"] for loss, row in rows_by_loss(tmp_path).items()}
    assert resumed == {"raw_pixels": 0, "untrained": 0, "contrastive": 0, "mortal": 1, "arcface": 0}
    assert not checkpoint.exists()
    same_as_undisturbed(tmp_path, undisturbed)


@pytest.mark.slow  # the next test does so with the lock of another process
def test_two_processes_with_the_same_sweep_share_its_runs_and_both_print_the_whole_table(
    tmp_path: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*SWEEP, *write_mortal_loss(tmp_path, dies=False)]
    process = start(tmp_path, *argv)
    assert process.stdout is not None
    first_line = process.stdout.readline()  # it has imported everything and starts its first run
    assert run(argv) == 0
    outputs = [first_line + finish(process), capsys.readouterr().out]
    for loss in LOSSES:
        assert sum(output.count(f"loss={loss} seed=0: R@1") for output in outputs) >= 1
    assert sum(output.count("(trained in ") + output.count("(no training: ") for output in outputs) == len(LOSSES)
    [file] = (tmp_path / "runs" / "tables").glob("*.md")
    assert all(file.read_text().strip() in output for output in outputs)
    same_as_undisturbed(tmp_path, undisturbed)


def test_a_sweep_waits_for_runs_of_another_process_at_its_end_and_runs_no_failed_method_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["sweep", "loss=contrastive,triplet", *TINY, "protocol.lr=1e18"]
    assert run(argv) == 1
    before = {loss: row["finished_at"] for loss, row in rows_by_loss(tmp_path).items()}
    executed = []
    original = launcher.run_job

    def run_job(job: Any, wait: bool, report: Callable[[str], None], *arguments: Any) -> Any:
        def report_and_release(line: str) -> None:
            report(line)
            if "waiting for it" in line:
                held.close()  # the other process ends the run

        executed.append((job.composed.choices["loss"], wait))
        return original(job, wait, report_and_release, *arguments)

    monkeypatch.setattr(launcher, "run_job", run_job)
    monkeypatch.setattr("dmlbench.runs.experiment.datetime", _Later)
    [lock] = tmp_path.glob("runs/synthetic/triplet/*/.lock")
    capsys.readouterr()
    with ExitStack() as held:
        held.enter_context(locked(lock))
        assert run([*argv, "retry=failed"]) == 1
    output = capsys.readouterr().out
    assert executed == [
        ("raw_pixels", False),
        ("untrained", False),
        ("contrastive", False),
        ("triplet", False),
        ("triplet", True),
    ]
    after = {loss: row["finished_at"] for loss, row in rows_by_loss(tmp_path).items()}
    assert {loss for loss in after if after[loss] != before[loss]} == {"contrastive"}
    assert "waiting for runs that another process is executing" in output
    assert "is being executed by another process; waiting for it" in output
    assert output.count("loss=triplet seed=0: failed: ") == 1
    assert output.count("loss=contrastive seed=0: failed: ") == 1


class _Later:
    """A clock that is ahead, so that a new row has another time of its end than one of the same second."""

    @staticmethod
    def now(zone: Any) -> Any:
        from datetime import datetime, timedelta

        return datetime.now(zone) + timedelta(hours=1)
