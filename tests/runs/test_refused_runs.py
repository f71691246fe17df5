"""A refused command leaves nothing behind: every job is checked before the first directory is made."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from dmlbench.cli import run
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.runs import experiment
from dmlbench.system.locks import locked

TINY = (
    *("dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=6", "protocol=quick", "trunk=convnet"),
    *("trunk.make.channels=[4,8]", "protocol.epochs=1", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files_below(directory: str) -> list[str]:
    return sorted(str(file) for file in Path(directory).rglob("*"))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("protocol.batch_size=6", "protocol.batch_size is 6, which is not a multiple of samples_per_class 4; use 4 or 8"),
        ("protocol.batch_size=2", "which is not a multiple of samples_per_class 4; use 4"),
        ("protocol.batch_size=64", "needs 16 classes, but the training split has 4; use protocol.batch_size=16 or less"),
        ("optimizer.betas=[2,2]", "Invalid beta parameter"),
        ("+optimizer.foreach=true +optimizer.fused=true", "`fused` and `foreach` cannot be `True` together"),
        ("trunk.make.channels=[0]", ""),
    ],
)
def test_a_refused_run_leaves_no_file(override: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["train", "loss=triplet", *TINY, *(override.split(" ") if override.startswith("+opt") else [override])])
    captured = capsys.readouterr()
    assert (status, captured.err.count("\n")) == (2, 1), captured.err
    assert sentence in captured.err
    assert not files_below("runs")


def test_no_job_of_a_sweep_starts_if_a_later_one_is_refused_by_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "loss=triplet,contrastive", *TINY, "protocol.batch_size=8,6"]) == 2
    captured = capsys.readouterr()
    assert "protocol.batch_size is 6, which is not a multiple" in captured.err
    assert "method" not in captured.out
    assert not files_below("runs")


def test_a_search_that_the_data_refuse_leaves_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tune", "loss=triplet", *TINY, "tuning.trials=1", "tuning.folds=2", "protocol.batch_size=6"]) == 2
    assert "which is not a multiple" in capsys.readouterr().err
    assert not files_below("runs")


def refuse(*arguments: object) -> None:
    raise UserError("the disk is too slow")


def test_a_run_that_is_refused_after_its_start_removes_what_it_wrote(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "run", refuse)
    assert run(["train", "loss=triplet", *TINY]) == 2
    assert "the disk is too slow" in capsys.readouterr().err
    assert not files_below("runs")


def test_a_refused_run_keeps_what_an_earlier_attempt_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run", interrupt)
    assert run(["train", "loss=triplet", *TINY]) == 130
    left = files_below("runs")
    assert any(file.endswith(run_files.PENDING_ROW) for file in left)
    monkeypatch.setattr(experiment, "run", refuse)
    assert run(["train", "loss=triplet", *TINY]) == 2
    assert files_below("runs") == left


def test_a_run_keeps_its_checkpoint_if_it_is_refused_after_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "evaluated", refuse)
    assert run(["train", "loss=triplet", *TINY]) == 2
    names = {Path(file).name for file in files_below("runs")}
    assert {run_files.CHECKPOINT, run_files.PENDING_ROW} <= names


def test_a_table_does_not_know_a_refused_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "loss=triplet", *TINY, "protocol.batch_size=6"]) == 2
    assert run(["train", "loss=contrastive", *TINY]) == 0
    capsys.readouterr()
    assert run(["table"]) == 0
    captured = capsys.readouterr()
    assert "not finished" not in captured.out + captured.err


def test_a_full_disk_is_one_sentence_with_the_file_and_the_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sync = os.fsync

    def fill(descriptor: int) -> None:
        if run_files.CHECKPOINT in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fill)
        assert run(["train", "loss=triplet", *TINY]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(r"checkpoint\.pt cannot be written: No space left on device; it needs at least [\d,]+ bytes", error)
    assert error.endswith("; free some space, then run the same command again\n")
    assert run(["train", "loss=triplet", *TINY]) == 0


def test_leftovers_of_killed_writes_are_removed_by_the_next_run(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "loss=triplet", *TINY]
    assert run(command) == 0
    [row] = Path("runs").rglob("row.json")
    row.unlink()
    stale = [row.parent / ".checkpoint.pt.4194301.tmp", row.parent / "fold0" / ".model.pt.4194302.tmp"]
    for file in stale:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
    assert run(command) == 0
    assert not [file for file in stale if file.exists()]


def test_leftovers_of_killed_trials_are_removed_by_the_next_search() -> None:
    command = ["tune", "loss=contrastive", *TINY, "tuning.trials=1", "protocol.batch_size=4", "tuning.folds=2"]
    assert run(command) == 0
    [trials] = Path("runs").rglob("trials")
    (trials / "0001.json").unlink()
    stale = [trials / ".0001.json.4194301.tmp", trials / "0001" / "fold0" / ".checkpoint.pt.4194302.tmp"]
    for file in stale:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    assert run(command) == 0
    assert not [file for file in stale if file.exists()]


def test_a_finished_sweep_prints_its_table_although_it_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").mkdir()
    Path("runs/tables").write_text("a file")
    assert run(["sweep", "loss=contrastive", *TINY]) == 0
    captured = capsys.readouterr()
    assert "| Contrastive" in captured.out
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("dmlbench: the table cannot be written to runs/tables/synthetic-")
    assert "`dmlbench table` prints it again" in captured.err


def test_a_lock_whose_directory_was_removed_by_a_refused_run_is_acquired_again(tmp_path: Path) -> None:
    file = tmp_path / "run" / ".lock"
    waited = []

    def remove_directory() -> None:
        waited.append(file)
        shutil.rmtree(file.parent)
        held.__exit__(None, None, None)

    held = locked(file)
    held.__enter__()
    with locked(file, waiting=remove_directory) as acquired:
        assert acquired
        assert file.exists()
        with locked(file) as again:
            assert not again
    assert len(waited) == 1
