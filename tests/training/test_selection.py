"""Model selection: the last epoch, or the best on held-out training classes, and never chosen on the test set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dmlbench.cli import run
from dmlbench.config.compose import compose
from dmlbench.config.plan import Plan
from dmlbench.data.folds import training_splits
from dmlbench.data.loader import make_batches
from dmlbench.data.split import Split
from dmlbench.models.embedder import build_embedder
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs import experiment
from dmlbench.runs.prepare import prepare
from dmlbench.runs.runner import announcement
from dmlbench.tables.formats import render
from dmlbench.tables.table import compare
from dmlbench.training import trained_model, trainer
from dmlbench.training.checkpoint import History

OVERRIDES = [
    "loss=softtriple",
    "dataset=digits",
    "dataset.make.images_per_class=6",
    "dataset.train_images=150",
    "dataset.query_images=150",
    "dataset.gallery_images=150",
    "protocol.batch_size=24",
    "protocol.embedding_dim=8",
    "protocol.lr=0.003",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
]
ONE_FOLD = ["protocol.selection=validation", "protocol.fold=1"]
ALL_FOLDS = ["protocol.selection=validation", "protocol.fold=all"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def row_of(data: Path, runs: Path, *overrides: str) -> Row:
    assert run(["train", *OVERRIDES, *overrides, f"paths.data={data}", f"paths.runs={runs}"]) == 0
    [file] = find_rows(runs)
    return read_row(file)


@pytest.fixture(scope="module")
def row_of_all_folds(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Row:
    return row_of(data, tmp_path_factory.mktemp("all_folds"), *ALL_FOLDS, "protocol.epochs=2")


def prepared(data: Path, *overrides: str) -> tuple[Plan, Split]:
    return prepare(compose([*OVERRIDES, *overrides, f"paths.data={data}"]))


def history(folder: Path | None) -> list[dict[str, Any]]:
    assert folder is not None
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


# Best epoch


def test_the_epoch_with_the_best_validation_score_is_selected(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, *ONE_FOLD, "protocol.epochs=5", "protocol.lr=0.03")
    lines = history(row.folder)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4, 5]
    best = max(lines, key=lambda line: line["validation_map_at_r"])
    assert (row["selected_on"], row["selected_epoch"]) == ("validation", best["epoch"])
    assert row["selected_score"] == best["validation_map_at_r"]
    assert row["untrained_score"] == lines[0]["validation_map_at_r"]
    assert best["epoch"] != 5, "the test needs a best epoch that is not the last"


def test_the_reported_weights_are_those_of_the_selected_epoch(data: Path, tmp_path: Path) -> None:
    overrides = [*ONE_FOLD, "protocol.lr=0.1", "protocol.schedule=constant"]
    long = row_of(data, tmp_path / "long", *overrides, "protocol.epochs=5")
    short = row_of(data, tmp_path / "short", *overrides, f"protocol.epochs={long['selected_epoch']}")
    assert short["selected_epoch"] == long["selected_epoch"]
    assert short["map_at_r"] == long["map_at_r"]


def test_without_epochs_the_untrained_model_is_selected(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path / "last", "protocol.epochs=0")
    assert (row["selected_on"], row["selected_epoch"]) == ("last", 0)
    row = row_of(data, tmp_path / "validation", *ONE_FOLD, "protocol.epochs=0")
    assert (row["selected_on"], row["selected_epoch"]) == ("validation", 0)


def test_the_untrained_trunk_is_scored_on_the_same_held_out_classes(data: Path, tmp_path: Path) -> None:
    overrides = ["protocol.selection=validation", "protocol.fold=2", "protocol.epochs=1"]
    row = row_of(data, tmp_path, *overrides)
    plan, split = prepared(data, *overrides, "loss=untrained")
    [part] = training_splits(split, plan.protocol)
    model, batches = build_embedder(plan), make_batches(plan, split)
    assert row["untrained_trunk_score"] == trained_model.validation_score(model, part, batches, plan)
    assert row["untrained_trunk_score"] != row["untrained_score"]


def test_training_stops_when_its_patience_is_exceeded(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, *ONE_FOLD, "protocol.epochs=30", "protocol.patience=1", "protocol.lr=0.1")
    lines = history(row.folder)
    scores = [line["validation_map_at_r"] for line in lines]
    assert lines[-1]["epoch"] < 30
    assert lines[-1]["epoch"] - scores.index(max(scores)) == 2


# One model per fold


def test_each_fold_trains_without_the_images_of_its_held_out_classes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, split = prepared(data, *ALL_FOLDS, f"paths.runs={tmp_path}", "protocol.epochs=1")
    assert plan.dataset.train_classes == plan.method.make["num_classes"] == 19  # type: ignore[index]
    trained_classes: list[set[int]] = []
    labels = split.frame["label"].to_numpy()

    def recording(model: Any, objective: Any, part: Split, *rest: Any, **more: Any) -> History:
        trained_classes.append(set(labels[part.ids("train")]))
        return trainer.train(model, objective, part, *rest, **more)

    monkeypatch.setattr(trained_model, "train", recording)
    plan.folder.mkdir(parents=True)
    experiment.run(plan, split)
    assert [len(classes) for classes in trained_classes] == [19] * 4
    held_out = [set(range(25)) - classes for classes in trained_classes]
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 24


def test_the_models_of_all_folds_are_one_row_with_separated_and_concatenated_scores(row_of_all_folds: Row) -> None:
    row, folder = row_of_all_folds, row_of_all_folds.folder
    assert folder is not None
    folds = [row[f"fold{fold}_map_at_r"] for fold in range(4)]
    assert row["n_models"] == 4
    assert row["separated_map_at_r"] == row["map_at_r"] == pytest.approx(np.mean(folds))  # type: ignore[arg-type]
    parts = [load_file(folder / f"fold{fold}" / "embeddings.safetensors") for fold in range(4)]
    concatenated = torch.cat([part["embeddings"] for part in parts], dim=1)
    concatenated = (concatenated / concatenated.norm(dim=1, keepdim=True)).double()
    similarity, labels = concatenated @ concatenated.T, parts[0]["labels"]
    similarity.fill_diagonal_(-2)
    order = similarity.argsort(dim=1, descending=True)[:, :5]  # R is 5, because each class has six images
    hits = (labels[order] == labels[:, None]).double()
    expected = ((hits.cumsum(1) / torch.arange(1, 6)) * hits).sum(1).mean() / 5
    assert row["concatenated_map_at_r"] == pytest.approx(expected.item(), abs=1e-9)
    assert row["concatenated_dim"] == 4 * 8
    assert len(set(folds)) == 4
    assert json.loads(str(row["selected_epoch"])) == [
        max(history(folder / f"fold{fold}"), key=lambda line: line["validation_map_at_r"])["epoch"] for fold in range(4)
    ]
    assert not list(folder.rglob("checkpoint.pt")) + list(folder.rglob("best.pt"))


class PowerFailureError(BaseException):
    pass


def test_a_run_that_is_killed_in_its_third_fold_resumes_to_the_same_row(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row_of_all_folds: Row
) -> None:
    folders: list[Path] = []
    save_checkpoint = trainer.save_checkpoint

    def interrupted(folder: Path, *arguments: Any) -> None:
        save_checkpoint(folder, *arguments)
        folders.append(folder)
        if len(folders) == 5:
            raise PowerFailureError

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", interrupted)
        with pytest.raises(PowerFailureError):
            row_of(data, tmp_path, *ALL_FOLDS, "protocol.epochs=2")
    assert folders[-1].name == "fold2"
    resumed = row_of(data, tmp_path, *ALL_FOLDS, "protocol.epochs=2")
    assert resumed["n_resumed"] == 3  # the models of three folds had a checkpoint
    assert resumed.outcome == row_of_all_folds.outcome


def test_the_untrained_trunk_is_embedded_once_also_with_all_folds(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, *ALL_FOLDS, "loss=untrained")
    assert (row["n_models"], row["selected_on"], row["selected_epoch"]) == (1, "none", 0)
    # four concatenated copies of an embedding give the same ranking as one
    assert row["concatenated_map_at_r"] == row["separated_map_at_r"] == row["map_at_r"]


def test_a_method_that_breaks_down_in_a_fold_is_a_failed_row(data: Path, tmp_path: Path) -> None:
    overrides = [
        *OVERRIDES,
        *ALL_FOLDS,
        "protocol.epochs=1",
        "protocol.lr=1e30",
        f"paths.data={data}",
        f"paths.runs={tmp_path}",
    ]
    assert run(["train", *overrides]) == 1
    [row] = [read_row(file) for file in find_rows(tmp_path)]
    assert (row["status"], row["selected_epoch"]) == ("failed", None)
    assert "not finite" in str(row["reason"]) or "loss is nan" in str(row["reason"])


# The oracle, and what is printed


def test_the_oracle_records_the_best_epoch_on_the_test_set_and_changes_nothing_else(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["protocol.epochs=4", "protocol.lr=0.1"]
    without = row_of(data, tmp_path, *overrides)
    row = row_of(data, tmp_path, *overrides, "oracle=true")  # the same run again, because its row lacks the oracle's columns
    lines = history(row.folder)
    best = max(lines, key=lambda line: line["test_map_at_r"])
    assert (row["oracle_map_at_r"], row["oracle_epoch"]) == (best["test_map_at_r"], best["epoch"])
    assert row["oracle_map_at_r"] >= row["map_at_r"]  # type: ignore[operator]
    assert lines[-1]["test_map_at_r"] == row["map_at_r"]
    assert {name: row.outcome[name] for name in without.outcome} == without.outcome
    assert {name for name in row.outcome if name not in without.outcome} == {"oracle_map_at_r", "oracle_epoch"}
    capsys.readouterr()
    assert run(["train", *OVERRIDES, *overrides, "oracle=true", f"paths.data={data}", f"paths.runs={tmp_path}"]) == 0
    assert "already done" in capsys.readouterr().out
    [table] = compare([row])
    assert not any("oracle" in name for name in table.metrics)
    assert "racle" not in render([table], "markdown")


def test_a_run_announces_how_its_model_will_be_selected(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row_of(data, tmp_path / "last", "protocol.epochs=0")
    assert "selection" not in capsys.readouterr().out
    plan, split = prepared(data, *ALL_FOLDS)
    lines = announcement(plan, split)
    assert "selection best epoch on held-out training classes; 4 models, one per fold of held-out training classes" in lines


def test_recall_at_k_is_computed_for_any_k_below_the_size_of_the_gallery(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "protocol.epochs=0", "dataset.recall_at=[1,149]")
    assert row["recall_at_149"] == 1  # each query has 149 neighbours
    assert "precision_at_1" in row.columns
    assert "precision_at_149" not in row.columns  # it needs a list of 149 neighbours


# Another metric


def test_the_epoch_is_selected_on_the_metric_of_the_protocol(data: Path, tmp_path: Path) -> None:
    """Purity with two clusters per class: k-means runs on the held-out classes in every epoch, always from the same start."""
    overrides = [*ONE_FOLD, "protocol.selection_metric=purity", "protocol.clusters_per_class=2", "protocol.epochs=4"]
    row = row_of(data, tmp_path / "one", *overrides, "protocol.lr=0.03")
    lines = history(row.folder)
    scores = [line["validation_purity"] for line in lines]
    assert not any("validation_map_at_r" in line for line in lines)
    assert (row["selected_epoch"], row["selected_score"], row["untrained_score"]) == (
        scores.index(max(scores)),
        max(scores),
        scores[0],
    )
    assert len(set(scores)) > 1
    assert (row["n_clusters"], row["protocol_clusters_per_class"]) == (50, 2)
    again = row_of(data, tmp_path / "two", *overrides, "protocol.lr=0.03")
    assert [line["validation_purity"] for line in history(again.folder)] == scores
    sentence = "best epoch on held-out training classes by Purity (2 clusters per class), fold 1 of 4"
    assert sentence in " ".join(render(compare([row]), "markdown").split())


def test_early_stopping_follows_the_metric_of_the_protocol(data: Path) -> None:
    overrides = [*ONE_FOLD, "protocol.selection_metric=nmi", "protocol.patience=1", "protocol.epochs=9"]
    protocol = prepared(data, *overrides)[0].protocol
    evaluations = [
        {"epoch": epoch, "validation_nmi": nmi, "validation_map_at_r": 0.1 * epoch}
        for epoch, nmi in enumerate((0.3, 0.5, 0.4, 0.4))
    ]
    assert not trainer.out_of_patience(History(evaluations=evaluations[:3]), protocol)
    assert trainer.out_of_patience(History(evaluations=evaluations), protocol)


def test_a_run_that_is_selected_on_map_at_r_has_the_same_identity_as_before_the_field_existed(data: Path) -> None:
    default = prepared(data, *ONE_FOLD)[0]
    same = ["selection_metric=map_at_r", "clusters_per_class=1", "evaluation_queries=null", "full_gallery=false"]
    assert prepared(data, *ONE_FOLD, *(f"protocol.{one}" for one in same))[0].run_id == default.run_id
    assert prepared(data, *ONE_FOLD, "protocol.selection_metric=nmi")[0].run_id != default.run_id


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([*ONE_FOLD, "protocol.selection_metric=nim"], "protocol.selection_metric is 'nim', .*; did you mean 'nmi'"),
        ([*ONE_FOLD, "protocol.selection_metric=recal_at_1"], "; did you mean 'recall_at_1'"),
        ([*ONE_FOLD, "protocol.selection_metric=accuracy_at_5"], "whose name here is precision_at_5"),
        ([*ONE_FOLD, "protocol.selection_metric=full_map_at_r"], "which is not a metric of validation images"),
        ([*ONE_FOLD, "protocol.selection_metric=precision_at_99"], "but digits has 36 validation images; use a smaller k"),
        (["protocol.selection_metric=nmi"], "no effect with protocol.selection=last; it needs protocol.selection=validation"),
        ([*ONE_FOLD, "protocol.clusters_per_class=7"], "clusters_per_class is 7, but digits has 150 test images of 25 classes"),
    ],
)
def test_a_metric_without_a_value_on_the_validation_images_is_refused_before_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], sentence: str
) -> None:
    assert run(["train", *OVERRIDES, *overrides, f"paths.data={data}", f"paths.runs={tmp_path}/runs"]) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error), error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()
