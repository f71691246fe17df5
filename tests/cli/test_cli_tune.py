"""`dmlbench tune`: its shorthand for trials, and that it runs trials only. The search itself is specified in tests/tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import Photos, on_photos, refused, rows_below

from dmlbench.cli import run
from dmlbench.cli.tune import TRIALS


def test_tune_runs_the_trials_of_each_loss_and_no_run(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna", reason="needs dmlbench[tune]")
    overrides = on_photos(photos(), "loss.samples_per_class=2", "protocol.batch_size=4", "tuning.folds=2")
    assert run(["tune", "loss=contrastive,triplet", "trials=2", *overrides]) == 0
    output = capsys.readouterr().out
    assert output.count("trial 2 of 2: ") == 2
    for number, loss in enumerate(("contrastive", "triplet"), start=1):
        assert f"[{number} of 2" in output
        assert f"loss={loss} seed=0: validation MAP@R" in output
    assert len(list(Path("runs").glob("photos/*/tune-*/best.json"))) == 2
    assert not rows_below("runs")


@pytest.mark.parametrize(
    ("overrides", "trials"), [([], TRIALS), (["trials=3"], 3), (["tuning.trials=4"], 4), (["sweep=tuned"], 20)], ids=str
)
def test_the_number_of_trials_is_that_of_the_overrides_or_of_the_sweep_file(
    overrides: list[str], trials: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tune", *overrides, "--cfg", "job"]) == 0
    output = capsys.readouterr().out
    assert f"  trials: {trials}\n" in output
    assert "  only: true\n" in output


def test_an_empty_search_space_is_refused(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    removed = ["~loss.search", "~loss.search.lr", "loss.search.head_lr_scale=null"]
    sentence = refused(capsys, "tune", "loss=contrastive", *removed, "trials=2", "tuning.folds=2", *on_photos(photos()))
    assert sentence.endswith("every key of loss.search is null, so there is nothing to tune")
