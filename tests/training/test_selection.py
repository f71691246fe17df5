"""How a model is chosen: on held-out training classes or not at all, and never on the test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dmlbench.launch import compose, prepare
from safetensors.torch import load_file

from dmlbench.cli import run
from dmlbench.data.folds import training_splits
from dmlbench.models.embedder import build_embedder
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs import experiment
from dmlbench.tables.formats import markdown
from dmlbench.tables.table import compare
from dmlbench.training import trainer as train_module
from dmlbench.training.trainer import History, out_of_patience

WORDS = [
    "loss=softtriple",
    "dataset.make.images_per_class=3",
    "dataset.train_images=150",
    "dataset.query_images=150",
    "dataset.gallery_images=150",
    "protocol.batch_size=24",
    "protocol.embedding_dim=8",
    "protocol.lr=0.003",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
]
FOLDS = ["protocol.selection=validation", "protocol.fold=all"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def row_of(data: Path, runs: Path, *words: str) -> Row:
    assert run(["train", *WORDS, *words, f"paths.data={data}", f"paths.runs={runs}"]) == 0
    [file] = find_rows(runs)
    return read_row(file)


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def without_cost(row: Row) -> dict[str, Any]:
    cost = ("seconds", "images_per_second", "memory_gib", "finished_at", "n_resumed")
    return {name: value for name, value in row.columns.items() if not any(word in name for word in cost)}


def test_the_epoch_with_the_best_validation_score_is_reported(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "protocol.selection=validation", "protocol.fold=1", "protocol.epochs=5", "protocol.lr=0.03")
    [folder] = {file.parent for file in find_rows(tmp_path)}
    lines = history(folder)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4, 5]
    best = max(lines, key=lambda line: line["validation_map_at_r"])
    assert (row["selected_on"], row["selected_epoch"]) == ("validation", best["epoch"])
    assert row["selected_score"] == best["validation_map_at_r"]
    assert row["untrained_score"] == lines[0]["validation_map_at_r"]
    assert best["epoch"] != 5, "the test needs a best epoch that is not the last"


def test_the_reported_weights_are_the_selected_epochs(data: Path, tmp_path: Path) -> None:
    words = ["protocol.selection=validation", "protocol.fold=1", "protocol.lr=0.1", "protocol.schedule=constant"]
    long = row_of(data, tmp_path / "long", *words, "protocol.epochs=5")
    short = row_of(data, tmp_path / "short", *words, f"protocol.epochs={long['selected_epoch']}")
    assert short["selected_epoch"] == long["selected_epoch"]
    assert short["map_at_r"] == long["map_at_r"]


def test_training_images_of_the_held_out_classes_are_never_trained_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, split = prepare(*compose([*WORDS, *FOLDS, f"paths.data={data}", f"paths.runs={tmp_path}", "protocol.epochs=1"]))
    assert plan.dataset.train_classes == plan.method.make["num_classes"] == 38  # type: ignore[index]
    seen: list[set[int]] = []
    labels = split.frame["label"].to_numpy()

    def recording(model: Any, objective: Any, part: Any, *rest: Any) -> History:
        seen.append(set(labels[part.ids("train")]))
        return train_module.train(model, objective, part, *rest)

    monkeypatch.setattr(experiment, "train", recording)
    plan.folder.mkdir(parents=True)
    experiment.run(plan, split)
    assert [len(classes) for classes in seen] == [38] * 4
    held = [set(range(50)) - classes for classes in seen]
    assert sum(map(len, held)) == len(set.union(*held)) == 48


def test_a_model_a_fold_is_one_row_with_separated_and_concatenated_scores(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, *FOLDS, "protocol.epochs=2")
    [folder] = {file.parent for file in find_rows(tmp_path)}
    folds = [row[f"fold{fold}_map_at_r"] for fold in range(4)]
    assert row["n_models"] == 4
    assert row["separated_map_at_r"] == row["map_at_r"] == pytest.approx(np.mean(folds))  # type: ignore[arg-type]
    parts = [load_file(folder / f"fold{fold}" / "embeddings.safetensors") for fold in range(4)]
    joined = torch.cat([part["embeddings"] for part in parts], dim=1)
    joined = (joined / joined.norm(dim=1, keepdim=True)).double()
    similarity, labels = joined @ joined.T, parts[0]["labels"]
    similarity.fill_diagonal_(-2)
    order = similarity.argsort(dim=1, descending=True)[:, :2]  # R is 2: three images a class
    hits = (labels[order] == labels[:, None]).double()
    expected = ((hits.cumsum(1) / torch.tensor([1.0, 2.0])) * hits).sum(1).mean() / 2
    assert row["concatenated_map_at_r"] == pytest.approx(expected.item(), abs=1e-9)
    assert row["concatenated_dim"] == 4 * 8
    assert len(set(folds)) == 4
    assert json.loads(str(row["selected_epoch"])) == [
        max(history(folder / f"fold{fold}"), key=lambda line: line["validation_map_at_r"])["epoch"] for fold in range(4)
    ]
    assert not list(folder.rglob("checkpoint.pt")) + list(folder.rglob("best.pt"))


class PowerCutError(BaseException):
    pass


def test_a_run_killed_in_its_third_fold_resumes_to_the_same_row(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*FOLDS, "protocol.epochs=2"]
    whole = row_of(data, tmp_path / "whole", *words)
    saves, save = [], train_module.save_checkpoint

    def cut(*args: Any) -> None:
        save(*args)
        saves.append(args[0])
        if len(saves) == 5:
            raise PowerCutError

    monkeypatch.setattr(train_module, "save_checkpoint", cut)
    with pytest.raises(PowerCutError):
        row_of(data, tmp_path / "cut", *words)
    monkeypatch.setattr(train_module, "save_checkpoint", save)
    assert "fold2" in str(saves[-1])
    assert without_cost(row_of(data, tmp_path / "cut", *words)) == without_cost(whole)


def test_the_untrained_trunk_is_embedded_once_whatever_the_folds(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, *FOLDS, "loss=untrained")
    assert (row["n_models"], row["selected_on"], row["selected_epoch"]) == (1, "none", 0)
    # the same trunk four times, joined, ranks as it does once
    assert row["concatenated_map_at_r"] == row["separated_map_at_r"] == row["map_at_r"]


def test_the_trunk_as_it_came_is_scored_first_on_the_same_held_out_classes(data: Path, tmp_path: Path) -> None:
    words = [*WORDS, "protocol.selection=validation", "protocol.fold=2", "protocol.epochs=1", f"paths.data={data}"]
    row = row_of(data, tmp_path, *words[len(WORDS) :])
    plan, split = prepare(*compose([*words, "loss=untrained", f"paths.runs={tmp_path}"]))
    [part] = training_splits(split, plan.protocol)
    model, batches = build_embedder(plan), experiment.batches_of(plan, split)
    assert row["untrained_trunk_score"] == experiment.map_at_r_on(model, part, ("val", "val"), batches, plan)
    assert row["untrained_trunk_score"] != row["untrained_score"]


@pytest.mark.parametrize(
    ("scores", "ends"), [([3, 5, 4, 4], False), ([3, 5, 4, 4, 4], True), ([5, 4, 4], False), ([3, 4, 5], False), ([], False)]
)
def test_training_ends_when_the_best_lies_more_than_the_patience_behind(scores: list[int], ends: bool) -> None:
    """Every second epoch is looked at; the patience is 5 epochs, so six behind is too many."""
    evaluations = [{"epoch": 2 * place, "validation_map_at_r": score} for place, score in enumerate(scores)]
    plan, _ = prepare(*compose(["dataset=synthetic", "protocol.patience=5", *FOLDS]))
    assert out_of_patience(History(evaluations=evaluations), plan.protocol) is ends


def test_a_training_that_ran_out_of_patience_is_shorter(data: Path, tmp_path: Path) -> None:
    words = ["protocol.selection=validation", "protocol.fold=0", "protocol.epochs=30", "protocol.patience=1", "protocol.lr=0.1"]
    row_of(data, tmp_path, *words)
    [folder] = {file.parent for file in find_rows(tmp_path)}
    lines = history(folder)
    scores = [line["validation_map_at_r"] for line in lines]
    assert lines[-1]["epoch"] < 30
    assert lines[-1]["epoch"] - scores.index(max(scores)) == 2


def test_an_epoch_is_as_many_steps_as_the_protocol_says(data: Path, tmp_path: Path) -> None:
    plan, split = prepare(*compose([*WORDS, "protocol.steps_per_epoch=17", f"paths.data={data}"]))
    labels = train_module.training_labels(split)
    batches = train_module.epoch_sampler(plan, labels)(0)
    assert batches.shape == (17, 24)
    one_pass, _ = prepare(*compose([*WORDS, f"paths.data={data}"]))
    np.testing.assert_array_equal(train_module.epoch_sampler(one_pass, labels)(0), batches[:6])


def test_the_oracle_says_what_choosing_on_the_test_set_would_claim_and_changes_nothing_else(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["protocol.epochs=4", "protocol.lr=0.1"]
    plain = row_of(data, tmp_path, *words)
    asked = row_of(data, tmp_path, *words, "oracle=true")  # the same run: it is made again, for its row lacks the column
    [folder] = {file.parent for file in find_rows(tmp_path)}
    lines = history(folder)
    best = max(lines, key=lambda line: line["test_map_at_r"])
    assert (asked["oracle_map_at_r"], asked["oracle_epoch"]) == (best["test_map_at_r"], best["epoch"])
    assert asked["oracle_map_at_r"] >= asked["map_at_r"]  # type: ignore[operator]
    assert lines[-1]["test_map_at_r"] == asked["map_at_r"]
    same = without_cost(asked)
    assert {name: same[name] for name in without_cost(plain)} == without_cost(plain)
    capsys.readouterr()
    assert run(["train", *WORDS, *words, "oracle=true", f"paths.data={data}", f"paths.runs={tmp_path}"]) == 0
    assert "already done" in capsys.readouterr().out
    [table] = compare([asked])
    assert not any("oracle" in name for name in (*table.metrics, *table.columns))
    assert "racle" not in markdown([table])


def test_a_run_says_beforehand_how_its_model_will_be_chosen(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row_of(data, tmp_path / "a", "protocol.epochs=1")
    assert "selection" not in capsys.readouterr().out
    row_of(data, tmp_path / "b", *FOLDS, "protocol.epochs=1")
    line = "selection the best epoch on held-out training classes; 4 models, each with another fold of these classes held out"
    assert line in capsys.readouterr().out


def test_no_epoch_at_all_selects_the_model_before_its_first_step(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path / "last", "protocol.epochs=0")
    assert (row["selected_on"], row["selected_epoch"]) == ("last", 0)
    row = row_of(data, tmp_path / "validation", "protocol.epochs=0", "protocol.selection=validation", "protocol.fold=0")
    assert (row["selected_on"], row["selected_epoch"]) == ("validation", 0)


def test_a_method_that_breaks_down_in_a_fold_is_a_failed_row(data: Path, tmp_path: Path) -> None:
    words = [*WORDS, *FOLDS, "protocol.epochs=1", "protocol.lr=1e30", f"paths.data={data}", f"paths.runs={tmp_path}"]
    assert run(["train", *words]) == 1
    [row] = [read_row(file) for file in find_rows(tmp_path)]
    assert (row["status"], row["selected_epoch"]) == ("failed", None)
    assert "is not finite" in str(row["reason"]) or "loss is nan" in str(row["reason"])


def test_recall_at_a_thousand_needs_no_list_of_a_thousand(data: Path, tmp_path: Path) -> None:
    row = row_of(data, tmp_path, "protocol.epochs=1", "dataset.recall_at=[1,1000]")
    assert row["recall_at_1000"] == 1  # of 149 others
    assert "precision_at_1" in row.columns
    assert "precision_at_1000" not in row.columns
