"""Studies: equal budgets, training classes only, and no trial that is lost or run twice."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_studies import SMALL, overrides, trials, tuned

from dmlbench.cli import run
from dmlbench.config.compose import compose
from dmlbench.config.schema import Tuning
from dmlbench.data import contents, images
from dmlbench.errors import MethodFailure
from dmlbench.runs.prepare import prepare
from dmlbench.runs.remote_job import FORWARDED
from dmlbench.runs.studies import make_study
from dmlbench.system.regular_files import open_regular
from dmlbench.system.seeding import derive_seed
from dmlbench.training import trainer
from dmlbench.tuning import trial_run
from dmlbench.tuning.study import search

# Trials and their scores


def test_the_first_trial_has_the_configured_hyper_parameters_and_the_best_trial_is_saved_with_the_history(
    data: Path, tmp_path: Path
) -> None:
    folder = tuned(data, tmp_path, "loss=contrastive", "trials=4")
    lines = list(csv.DictReader((folder / "history.csv").open()))
    assert [line["trial"] for line in lines] == ["1", "2", "3", "4"]
    first = {"lr": "0.003", "head_lr_scale": "1.0", "make.pos_margin": "0.0", "make.neg_margin": "1.0"}
    assert {key: lines[0][key] for key in first} == first
    scores = [float(line["validation_map_at_r"]) for line in lines]
    best = json.loads((folder / "best.json").read_text())
    assert best["validation_map_at_r"] == float(lines[-1]["best_so_far"]) == max(scores) >= scores[0]
    line = lines[best["trial"] - 1]
    assert best["overrides"] == [f"loss.{key}={line[key]}" for key in first]
    assert not list(folder.rglob("*.pt")) + list(tmp_path.rglob("row.json"))


def test_the_plot_is_the_same_for_the_same_trials(data: Path, four_trials: Path, copied_runs: Path) -> None:
    plot = (four_trials / "history.svg").read_text()
    assert "best so far" in plot
    [copy] = copied_runs.rglob("history.svg")
    copy.unlink()
    tuned(data, copied_runs, "trials=4")
    assert copy.read_text() == plot


@pytest.mark.parametrize("selection", ["last", "validation"])
def test_the_score_of_a_trial_is_what_a_run_with_that_fold_held_out_reports(data: Path, tmp_path: Path, selection: str) -> None:
    more = [f"protocol.selection={selection}"]
    folder = tuned(data, tmp_path / "tune", "trials=1", "tuning.fold=2", "protocol.lr=0.03", *more)
    seed = derive_seed(derive_seed(0, "tuning"), "fold", 0)
    one_fold = ["protocol.fold=2", "protocol.lr=0.03", "protocol.selection=validation", f"seed={seed}"]
    assert run(["train", *overrides(data, tmp_path / "run", *one_fold)]) == 0
    [history] = (tmp_path / "run").rglob("history.jsonl")
    scores = [json.loads(line)["validation_map_at_r"] for line in history.read_text().splitlines()]
    assert trials(folder)[0]["score"] == (max(scores) if selection == "validation" else scores[-1])


def test_with_all_folds_the_score_is_their_mean(data: Path, tmp_path: Path) -> None:
    all_folds = trials(tuned(data, tmp_path / "all", "trials=1", "tuning.fold=all", "tuning.folds=3"))[0]
    first = trials(tuned(data, tmp_path / "first", "trials=1", "tuning.folds=3"))[0]
    assert [step for step, _ in all_folds["intermediate_values"]] == [1, 2, 3, 4, 5, 6]
    assert all_folds["intermediate_values"][:2] == first["intermediate_values"]
    assert all_folds["score"] == all_folds["intermediate_values"][-1][1] != first["score"]
    assert all_folds["epochs"] == 3 * first["epochs"]


def test_an_interpolation_follows_the_hyper_parameter_of_a_trial(data: Path, tmp_path: Path) -> None:
    composed = compose(overrides(data, tmp_path, "tuning.trials=1"))
    plan = make_study(composed, Tuning(trials=1)).plan_with({"make.margin": 0.55})
    assert plan.method.make["margin"] == plan.method.miner["margin"] == 0.55  # type: ignore[index]
    assert composed.cfg.loss.make.margin == 0.2


def test_a_trial_whose_method_breaks_down_fails_with_score_0(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(model: Any, objective: Any, part: Any, batches: Any, plan: Any, *rest: Any) -> Any:
        if plan.method.make["margin"] != 0.2:
            raise MethodFailure("the loss is nan")
        return trainer.train(model, objective, part, batches, plan, *rest)

    monkeypatch.setattr(trial_run, "train", breaking)
    found = trials(tuned(data, tmp_path, "trials=3"))
    assert [(one["state"], one["reason"]) for one in found[1:]] == [("failed", "the loss is nan")] * 2
    assert found[0]["score"] > found[1]["score"] == 0


def test_a_trial_that_falls_behind_is_pruned_and_counts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(model: Any, part: Any, batches: Any, plan: Any) -> float:
        return 1 - abs(plan.method.make["margin"] - 0.2)

    monkeypatch.setattr(trial_run, "validation_score", score)
    budget = ["trials=9", "protocol.epochs=3", "protocol.steps_per_epoch=1"]
    found = trials(tuned(data, tmp_path / "pruned", *budget))
    states = [one["state"] for one in found]
    assert states[:5] == ["complete"] * 5
    assert "pruned" in states
    assert len(states) == 9
    assert all(one["epochs"] < 3 for one in found if one["state"] == "pruned")
    without_pruning = trials(tuned(data, tmp_path / "complete", *budget, "tuning.prune=false"))
    assert {one["state"] for one in without_pruning} == {"complete"}


# Progress


def test_a_study_reports_its_settings_and_every_trial_in_lines_that_launchers_forward(data: Path, copied_runs: Path) -> None:
    study = make_study(compose(overrides(data, copied_runs, "tuning.trials=4")), Tuning(trials=4))
    (study.folder / "trials" / "0004.json").unlink()
    lines: list[str] = []
    assert search(study, wait=False, report=lines.append) is not None
    assert lines[:2] == [
        "tuning    Triplet: 4 trials (3 finished), 2 epochs each, stopped early if behind the median; validation on fold 0 of "
        "4 of the training classes (6 classes, the other 19 for training); test images are not loaded",
        f"space     lr 0.0003 to 0.03 (log), head_lr_scale 0.1 to 10 (log), make.margin 0 to 1; in {study.folder}",
    ]
    assert re.fullmatch(
        r"trial 4 of 4: [\d.]+% \(best [\d.]+%, trial \d\), lr=[\d.e-]+, head_lr_scale=[\d.]+, make\.margin=0\.\d+", lines[2]
    )
    assert all(line.startswith(FORWARDED) for line in (lines[0], lines[2]))


# The test set


def photos(root: Path, test_label: Callable[[int], int] = lambda label: label) -> list[str]:
    """Twelve classes of four images; a manifest makes the last four classes the test set."""
    generator = np.random.default_rng(0)
    lines = []
    for label in range(12):
        (root / f"{label}").mkdir(parents=True, exist_ok=True)
        for k in range(4):
            path = f"{label}/{k}.png"
            Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / path)
            test = label >= 8
            lines.append((path, test_label(label) if test else label, "test" if test else "train"))
    pd.DataFrame(lines, columns=["path", "label", "role"]).to_csv(root / "list.csv", index=False)
    dataset = ["dataset=folder", "dataset.name=photos", f"dataset.root={root}", "dataset.manifest=list.csv"]
    protocol = ["trunk=convnet", "protocol=quick", *SMALL, "protocol.batch_size=6"]
    return ["loss=triplet", *dataset, "dataset.split=manifest", *protocol]


@pytest.mark.parametrize("cache", ["none", "memmap"])
def test_test_images_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str) -> None:
    paths = [f"dataset.cache={cache}", f"paths.data={tmp_path}", f"paths.runs={tmp_path}"]
    arguments = [*photos(tmp_path / "photos"), *paths]
    for label in range(8, 12):
        for file in (tmp_path / "photos" / f"{label}").iterdir():
            file.write_bytes(b"no image")
    opened: set[str] = set()

    def open_file(path: Path) -> BinaryIO:
        opened.add(path.parent.name)
        return open_regular(path)

    for module in (contents, images):  # hashing and decoding
        monkeypatch.setattr(module, "open_file", open_file)
    assert run(["tune", *arguments, "trials=2"]) == 0
    assert opened == {f"{label}" for label in range(8)}
    assert run(["train", *arguments, "tuning.trials=2"]) == 2  # the run itself needs the test images


def test_a_study_does_not_depend_on_the_test_set(tmp_path: Path) -> None:
    studies = {}
    for name, test_label in {"first": lambda label: label, "second": lambda label: 8 + label % 2}.items():
        arguments = photos(tmp_path / name, test_label)
        paths = [f"dataset.root={tmp_path / name}", f"paths.data={tmp_path}", f"paths.runs={tmp_path / name}/runs"]
        assert run(["tune", *arguments, *paths, "trials=2"]) == 0
        [folder] = (tmp_path / name).glob("runs/*/*/tune-*")
        studies[name] = folder.name, trials(folder)
    assert studies["first"] == studies["second"]
    assert len(studies["first"][1]) == 2


def test_the_split_of_a_study_contains_only_training_images(data: Path, tmp_path: Path) -> None:
    _, split = prepare(compose(overrides(data, tmp_path, "tuning.trials=1")))
    training = split.training()
    assert training.facts == split.facts | {"images": 150, "test_classes": 0, "query_images": 0, "gallery_images": 0}
    assert list(training.frame["path"]) == list(split.frame.loc[split.frame["train"], "path"])


# Errors


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trials=many", "tuning.trials is 'many', but a whole number is needed"),
        ("trials=-1", "tuning.trials is -1; it must be at least 0"),
        ("trials=0", "tuning.only is true, but tuning.trials is 0"),
        ("tuning.fold=4", "tuning.fold is 4, but there are 4 folds, 0 to 3, or `all`"),
        ("tuning.fold=some", "tuning.fold is 'some', but a whole number or 'all' is needed"),
        ("tuning.folds=30", "tuning.fold: 25 training classes cannot be"),
        ("tuning.epochs=0", "tuning.epochs is 0; it must be at least 1"),
        ("tuning.trails=3", "tuning.trails is not known; did you mean 'tuning.trials'"),
        ("loss.make.margin=7", "loss.make.margin is 7, outside its search space 0 to 1"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_with_status_2(
    data: Path, tmp_path: Path, override: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tune", *overrides(data, tmp_path, override)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_without_optuna_tuning_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(["tune", *overrides(data, tmp_path)]) == 2
    assert "tuning needs optuna and matplotlib: pip install 'dmlbench[tune]'" in capsys.readouterr().err


def test_the_untrained_trunk_has_nothing_to_tune(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tune", f"paths.data={data}", f"paths.runs={tmp_path}", "loss=untrained"]) == 0
    assert "there is nothing to tune" in capsys.readouterr().out
