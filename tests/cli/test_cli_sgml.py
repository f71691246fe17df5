"""Methods that use attributes, on the command line: columns, models, layers, samplers, folds, tuning and refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import TINY, Photos, on_photos, refused, rows_below

from dmlbench.cli import run

SYNTHETIC = (
    "dataset=synthetic",
    *("dataset.make.classes=16", "dataset.make.images_per_class=4", "dataset.make.image_px=16", *TINY),
)
SHARED = "protocol.head_layers=[6]"  # the fully connected layer
METHODS = ("binomial_deviance", "soft_binomial_deviance", "attributes_only", "multitask", "sgml")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"paths.data={tmp_path_factory.mktemp('data')}"


@pytest.fixture(scope="module")
def ablation(data: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The row of each method, and its directory as `folder`; not to be changed."""
    runs = tmp_path_factory.mktemp("ablation")
    for loss in METHODS:
        assert run(["train", f"loss={loss}", *SYNTHETIC, SHARED, data, f"paths.runs={runs}"]) == 0
    files = sorted(runs.rglob("row.json"))
    return {row["loss"]: {**row, "folder": file.parent} for file in files if (row := json.loads(file.read_text()))}


def train(data: str, *overrides: str) -> dict[str, Any]:
    """Train in the directory of the test; return the row."""
    assert run(["train", *SYNTHETIC, data, *overrides]) == 0
    return max(rows_below("runs"), key=lambda row: row["finished_at"])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "model.pt")["model"]
    return state


def test_number_and_digest_of_the_attributes_belong_to_the_methods_that_use_them(ablation: dict[str, dict[str, Any]]) -> None:
    found = {name: ablation[name]["loss_n_attributes"] for name in METHODS}
    count = found["sgml"]
    assert count > 10
    assert found == {**dict.fromkeys(METHODS, count), "binomial_deviance": None}
    digests = {ablation[name]["loss_attributes_digest"] for name in METHODS if name != "binomial_deviance"}
    assert len(digests) == 1
    assert len(digests.pop()) == 16
    assert len({ablation[name]["fingerprint"] for name in METHODS}) == 1


def test_only_methods_with_a_branch_have_metrics_of_predicted_attributes(ablation: dict[str, dict[str, Any]]) -> None:
    with_branch = {name for name in METHODS if "attribute_map" in ablation[name]}
    assert with_branch == {"attributes_only", "multitask", "sgml"}
    for name in with_branch:
        row = ablation[name]
        assert 0 < row["attribute_prevalence"] < row["attribute_map"] <= 1
        assert 0 <= row["attribute_f1"] <= 1
        assert row["n_evaluated_attributes"] + row["n_attributes_without_positives"] == row["loss_n_attributes"]
    sizes = {name: ablation[name]["embedding_dim"] for name in METHODS}
    assert sizes == {**dict.fromkeys(METHODS, 8), "attributes_only": 6}  # which retrieves by the fully connected layer


def test_all_methods_start_from_the_same_weights_and_the_branch_has_its_own_stream(data: str) -> None:
    models = []
    for loss in ("binomial_deviance", "sgml", "multitask"):
        train(data, f"loss={loss}", SHARED, "protocol.epochs=0", f"paths.runs=runs/{loss}")
        [file] = Path("runs", loss).rglob("model.pt")
        models.append(weights(file.parent))
    plain, sgml, multitask = models
    assert set(sgml) - set(plain) == {"attributes.weight", "attributes.bias"}
    assert all(torch.equal(value, sgml[name]) for name, value in plain.items())
    assert all(torch.equal(value, multitask[name]) for name, value in sgml.items())


def test_the_branch_is_trained(ablation: dict[str, dict[str, Any]], data: str) -> None:
    train(data, "loss=sgml", SHARED, "protocol.epochs=0")
    [file] = Path("runs").rglob("model.pt")
    before, after = weights(file.parent), weights(ablation["sgml"]["folder"])
    assert not torch.equal(before["attributes.weight"], after["attributes.weight"])


def test_the_default_protocol_of_synthetic_has_no_hidden_layer_and_the_branch_reads_the_pooled_features(data: str) -> None:
    assert train(data, "loss=attributes_only")["embedding_dim"] == 8  # of the trunk
    [file] = Path("runs").rglob("model.pt")
    assert weights(file.parent)["attributes.weight"].shape[1] == 8
    assert train(data, "loss=sgml")["attribute_map"] > 0


def test_a_data_set_without_attributes_is_refused_before_training_and_the_sentence_says_what_would_help(
    capsys: pytest.CaptureFixture[str], photos: Photos
) -> None:
    for loss in METHODS[1:]:
        sentence = refused(capsys, "train", f"loss={loss}", "dataset=digits")
        assert sentence.startswith(f"loss/{loss} uses attributes of the images, but dataset/digits has none; use a data set")
        assert "dataset=synthetic" in sentence
    assert "dataset.attributes=FILE" in refused(capsys, "train", "loss=sgml", *on_photos(photos()))
    assert run(["train", "loss=binomial_deviance", *on_photos(Path("photos"))]) == 0


def test_a_baseline_can_use_neither_attributes_nor_another_layer(capsys: pytest.CaptureFixture[str]) -> None:
    for override in ("loss.attributes=predicted", "loss.layer=fully_connected"):
        sentence = refused(capsys, "train", "loss=untrained", *SYNTHETIC, override)
        assert sentence.startswith("loss/untrained: kind is 'none', so it can use neither attributes nor another layer")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("loss=triplet", "loss.attributes=predicted"),
            "loss/triplet: loss.attributes is 'predicted', but pytorch_metric_learning.losses.TripletMarginLoss does not "
            "accept `attributes`; use loss.attributes=ignored, or a loss such as sgml",
        ),
        (
            ("loss=soft_binomial_deviance", "loss.attributes=predicted"),
            "loss/soft_binomial_deviance: loss.attributes is 'predicted', but dmlbench.losses.binomial_deviance."
            "SoftBinomialDevianceLoss does not accept `logits`; use loss.attributes=ignored, or a loss such as sgml",
        ),
        (
            ("loss=sgml", "loss.attributes=annotated"),
            "loss/sgml: loss.attributes is 'annotated', but dmlbench.losses.semantic_granularity.SemanticGranularityLoss needs "
            "`logits`; use loss.attributes=predicted",
        ),
        (
            ("loss=sgml", "loss.attributes=all"),
            "loss.attributes is 'all', but 'ignored' or 'predicted' or 'annotated' is needed",
        ),
        (
            ("loss=softtriple", "loss.layer=fully_connected"),
            "loss/softtriple: layer is 'fully_connected', so the model has no embedding layer, but loss.make has an "
            "embedding_size; use loss.layer=embedding",
        ),
        (
            ("loss=sgml", "loss.n_attributes=3"),
            "loss.n_attributes",
        ),
    ],
)
def test_a_loss_that_does_not_fit_what_it_would_receive_is_refused(
    data: str, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], sentence: str
) -> None:
    assert refused(capsys, "train", *SYNTHETIC, data, *overrides).startswith(sentence)


def test_missing_annotations_of_the_users_own_images_are_left_out(photos: Photos) -> None:
    root, random = photos(), np.random.default_rng(0)
    with (root / "attributes.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "red", "round", "never seen in test"])
        for path in sorted(root.rglob("*.png")):
            name = path.relative_to(root).as_posix()
            out.writerow([name, random.integers(2), random.choice(["", "0", "1"]), int(name < "class01")])
    arguments = on_photos(root, "dataset.attributes=attributes.csv", SHARED)
    assert run(["sweep", "loss=sgml,soft_binomial_deviance", *arguments]) == 0
    rows = {row["loss"]: row for row in rows_below("runs")}
    assert all(np.isfinite(row["final_loss"]) for row in rows.values() if row["final_loss"] is not None)
    assert (rows["sgml"]["n_evaluated_attributes"], rows["sgml"]["n_attributes_without_positives"]) == (2, 1)


@pytest.mark.parametrize(
    "overrides", [("protocol.trunk_frozen=true",), ("protocol.fold=all", "protocol.folds=2", "protocol.selection=validation")]
)
def test_frozen_trunks_and_folds_have_a_branch_too(data: str, overrides: tuple[str, ...]) -> None:
    row = train(data, "loss=sgml", SHARED, "loss.samples_per_class=2", *overrides)
    assert row["status"] == "ok"
    assert 0 < row["attribute_map"] < 1
    assert row["n_models"] == (2 if "protocol.fold=all" in overrides else 1)


def test_its_hyper_parameters_are_tuned_on_the_attributes_of_training_images(data: str) -> None:
    budget = ("tuning.trials=2", "tuning.folds=2", "loss.samples_per_class=2")
    row = train(data, "loss=sgml", SHARED, *budget)
    assert {"make.alpha", "make.beta", "make.attribute_weight"} <= set(json.loads(row["tuned_values"]))
    assert row["loss_make_attribute_weight"] == json.loads(row["tuned_values"])["make.attribute_weight"]


def test_three_layers_of_one_model_make_one_table(
    ablation: dict[str, dict[str, Any]], data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ablation["sgml"]["folder"]
    copy = Path("runs/copy")
    copy.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    for layer in ("fully_connected", "pooled"):
        assert run(["evaluate", "runs", "--layer", layer, data]) == 0
    capsys.readouterr()
    assert run(["table", "--vary", "layer", "--no-cost", "--metrics", "recall_at_1,attribute_map"]) == 0
    output = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line.startswith("|")]
    assert [cell[0].removesuffix(" [1]") for cell in cells[2:]] == [
        "layer = embedding",
        "layer = fully_connected",
        "layer = pooled",
    ]
    assert len({cell[3] for cell in cells[2:]}) == 1  # the predicted attributes do not depend on the layer
    assert "rows differ in layer only; loss SGML" in output.replace("\n", " ")


def test_image_wise_and_batch_wise_sampling_make_one_table(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    for sampler in ("m_per_class", "triplets"):
        train(data, "loss=sgml", SHARED, f"sampler={sampler}", "protocol.batch_size=12")
    capsys.readouterr()
    assert run(["table", "--vary", "sampler"]) == 0
    lines = [
        line.split("|")[1].strip().removesuffix(" [1]") for line in capsys.readouterr().out.splitlines() if line.startswith("|")
    ]
    assert lines[2:] == ["m_per_class", "triplets"]


@pytest.mark.parametrize("count", [None, 0, 10**9, "many"])
def test_a_row_that_names_a_wrong_number_of_attributes_is_refused(
    ablation: dict[str, dict[str, Any]], data: str, capsys: pytest.CaptureFixture[str], count: Any
) -> None:
    folder = Path("runs/copy")
    folder.mkdir(parents=True)
    row = {name: value for name, value in ablation["sgml"].items() if name != "folder"}
    (folder / "row.json").write_text(json.dumps({**row, "loss_n_attributes": count}))
    assert run(["evaluate", "runs", "--layer", "pooled", data]) == 2
    assert "loss.n_attributes is " in capsys.readouterr().err
