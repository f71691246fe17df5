"""Studies that are interrupted, shared by processes, or continued: no trial is lost or run twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from small_studies import overrides, row_of, trials, tuned

from dmlbench.cli import run
from dmlbench.config.compose import compose
from dmlbench.config.schema import Tuning
from dmlbench.results.row_files import find_rows
from dmlbench.runs.studies import make_study
from dmlbench.training import trainer
from dmlbench.tuning import proposals
from dmlbench.tuning.study import search
from dmlbench.tuning.trials import read_trials, trial_lock


class PowerFailureError(BaseException):
    pass


def test_an_interrupted_study_ends_with_the_trials_of_one_without_interruption(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "RANDOM_TRIALS", 2)  # so that trials 3 to 5 learn from the trials before them
    expected = trials(tuned(data, tmp_path / "expected", "trials=5"))
    folders: list[Path] = []
    save_checkpoint = trainer.save_checkpoint

    def interrupted(folder: Path, *arguments: Any) -> None:
        save_checkpoint(folder, *arguments)
        folders.append(folder)
        if len(folders) in (5, 9):
            raise PowerFailureError

    monkeypatch.setattr(trainer, "save_checkpoint", interrupted)
    for number in (3, 5):
        with pytest.raises(PowerFailureError):
            tuned(data, tmp_path / "resumed", "trials=5")
        assert f"trials/{number:04d}/" in f"{folders[-1]}/"
    folder = tuned(data, tmp_path / "resumed", "trials=5")
    assert trials(folder) == expected
    assert [one.n_resumed for one in read_trials(folder, range(1, 6))] == [0, 0, 1, 0, 1]


def _tune_in_process(output: Path, kill_after: str | None, arguments: list[str]) -> None:
    """Run `dmlbench tune` in a forked process, which kills itself after it has saved a checkpoint of a trial."""
    torch.set_num_threads(1)
    save_checkpoint = trainer.save_checkpoint

    def killed(file: Path, *rest: Any) -> None:
        save_checkpoint(file, *rest)
        if kill_after is not None and kill_after in str(file):
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.save_checkpoint = killed  # type: ignore[attr-defined]
    with output.open("w") as stream, redirect_stdout(stream):
        status = run(["tune", *arguments])
    sys.exit(status)


def start(output: Path, arguments: list[str], kill_after: str | None = None) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("fork")  # a new interpreter would take seconds to import torch
    process = context.Process(target=_tune_in_process, args=(output, kill_after, arguments))
    process.start()
    return process


def test_a_killed_trial_continues_with_its_hyper_parameters_from_its_checkpoint(
    data: Path, tmp_path: Path, four_trials: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path / "output", overrides(data, tmp_path / "runs", "trials=3"), kill_after="trials/0002/")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [folder] = tmp_path.glob("runs/*/*/tune-*")
    values = json.loads((folder / "trials" / "0002" / "values.json").read_text())
    assert len(trials(folder)) == 1

    tuned(data, tmp_path / "runs", "trials=3")

    assert "3 trials (1 finished)" in capsys.readouterr().out
    found = read_trials(folder, range(1, 10))
    assert [one.number for one in found] == [1, 2, 3]
    assert (found[1].values, found[1].n_resumed) == (values, 1)
    assert trials(folder) == trials(four_trials)[:3]


def test_two_processes_share_the_trials_and_run_each_once(data: Path, tmp_path: Path) -> None:
    overrides_of_both = overrides(data, tmp_path / "runs", "trials=6")
    processes = [start(tmp_path / name, overrides_of_both) for name in ("first", "second")]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    outputs = [(tmp_path / name).read_text() for name in ("first", "second")]
    [folder] = tmp_path.glob("runs/*/*/tune-*")
    assert [one["number"] for one in trials(folder)] == list(range(1, 7))
    for number in range(1, 7):
        assert sum(output.count(f"trial {number} of 6:") for output in outputs) == 1
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]
    assert len((folder / "history.csv").read_text().splitlines()) == 7


def test_a_trial_that_another_process_runs_is_waited_for_or_skipped(data: Path, copied_runs: Path) -> None:
    study = make_study(compose(overrides(data, copied_runs, "tuning.trials=2")), Tuning(trials=2))
    (study.folder / "trials" / "0001.json").unlink()
    (study.folder / "trials" / "0002.json").unlink()
    with trial_lock(study.folder, 1) as acquired:
        assert acquired
        assert search(study, wait=False, report=lambda line: None) is None
        assert [one["number"] for one in trials(study.folder)] == [2, 3, 4]
    found = search(study, wait=True, report=lambda line: None)
    assert found is not None
    assert [one.number for one in found] == [1, 2]


def test_a_larger_budget_continues_the_study_and_rows_of_the_smaller_budget_stay_the_same(
    data: Path, tmp_path: Path, four_trials: Path
) -> None:
    expected = trials(four_trials)
    assert run(["train", *overrides(data, tmp_path, "tuning.trials=2")]) == 0
    before = row_of(tmp_path)
    folder = tuned(data, tmp_path, "trials=4")
    assert trials(folder) == expected
    [file] = find_rows(tmp_path)
    file.unlink()
    assert run(["train", *overrides(data, tmp_path, "tuning.trials=2")]) == 0
    assert row_of(tmp_path).outcome == before.outcome
    assert before["n_tuning_trials"] == 2
    assert before["tuned_score"] == max(one["score"] for one in expected[:2])


def test_a_trial_whose_file_is_damaged_is_run_again(data: Path, four_trials: Path, copied_runs: Path) -> None:
    [damaged] = copied_runs.rglob("trials/0002.json")
    damaged.write_text('{"number": 2, "sta')
    assert trials(tuned(data, copied_runs, "trials=4")) == trials(four_trials)
