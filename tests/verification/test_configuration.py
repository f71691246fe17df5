"""What a row records of its configuration agrees with its columns and with the files of dmlbench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dmlbench.cli import run
from dmlbench.config.compose import compose, resolve
from dmlbench.config.identity import columns_of, flatten
from dmlbench.config.plan import method_columns, protocol_columns
from dmlbench.config.presets import expand_preset
from dmlbench.config.provenance import provenance
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.verification.config_checks import configuration_findings


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Row:
    """A run without overrides of values: Triplet on the synthetic data."""
    root = tmp_path_factory.mktemp("quick")
    options = (f"paths.runs={root}/runs", f"paths.data={root}/data", "protocol.trunk_frozen=true", "protocol.epochs=0")
    assert run(["train", "dataset=synthetic", "loss=triplet", *options]) == 0
    [file] = find_rows(root / "runs")
    return read_row(file)


def composed(*overrides: str) -> Row:
    """The columns that describe the configuration of a run, without data."""
    cfg = compose(expand_preset(overrides))
    settings = resolve(cfg)
    dataset, protocol, method = settings.dataset, settings.protocol, settings.method
    columns: dict[str, Any] = {
        **{"schema_version": 3, "run_id": "x", "fingerprint": "x", "method_digest": "x", "status": "ok", "seed": 0},
        **{"dataset": dataset.name, "dataset_label": dataset.label, "split_recall_at": str(list(dataset.recall_at))},
        **{"split_rule": dataset.split, "split_seed": dataset.split_seed, "preset": cfg.preset, "protocol": protocol.name},
        **{"trunk": settings.trunk.name, "trunk_label": settings.trunk.label, **columns_of("trunk", settings.trunk)},
        **{"loss": method.name, "loss_label": method.label, **method_columns(method), **protocol_columns(protocol)},
        **{"optimizer": cfg.choices["optimizer"], **dict(flatten("optimizer", settings.optimizer))},
        **(columns_of("tuning", settings.tuning) if settings.tuning.trials else {}),
        **provenance(cfg),
    }
    return Row(columns)


def messages(row: Row) -> list[str]:
    return [finding.message for finding in configuration_findings(row)]


@pytest.mark.parametrize(
    "overrides",
    [
        "dataset=cub loss=proxy_anchor",
        "dataset=cub loss=proxy_anchor preset=paper",
        "dataset=cub loss=multi_similarity preset=paper protocol.epochs=3",
        "dataset=cub loss=batch_all_local preset=paper",
        "dataset=cars loss=normalized_softmax preset=paper",
        "dataset=cub loss=arcface preset=reality_check",
        "dataset=cub protocol=staysafe",
        "dataset=cub protocol=sgml trunk=bn_inception",
        "dataset=synthetic protocol.trunk_frozen=true protocol.flip=true",
        "dataset=synthetic protocol.resize_px=null protocol.image_px=64",
        "dataset=synthetic protocol.recall_at=[1,5] protocol.split=half_per_class",
        "dataset=synthetic dataset.recall_at=[1,3] dataset.split=random dataset.split_seed=3",
        "dataset=synthetic +optimizer.amsgrad=true optimizer.weight_decay=1e-3",
        "dataset=synthetic loss=triplet ~loss.miner",
        "dataset=synthetic loss=triplet loss.proxy_init=2 loss.lr=null",
        "dataset=synthetic loss=triplet loss.sampler={_target_:dmlbench.data.samplers.m_per_class,samples_per_class:2}",
        "dataset=synthetic tuning.trials=3",
        "dataset=synthetic dataset.label='My data, 1' dataset.name=other",
    ],
)
def test_an_honest_configuration_agrees_with_its_files(overrides: str) -> None:
    parts = overrides.split(" ") if "'" not in overrides else [*overrides.split(" ")[:1], "dataset.label='My data, 1'"]
    assert messages(composed(*parts)) == []


@pytest.mark.parametrize(
    "override",
    [
        *("protocol.flip=true", "protocol.train_crop=center", "protocol.trunk_frozen=true", "protocol.schedule=step"),
        *("trunk.mean=[0,0,0]", "protocol.head_layers=[256]", "trunk.make.channels=[1]", "loss.miner.type_of_triplets=hard"),
        *("dataset.split=random", "dataset.label=Other", "dataset.recall_at=[1, 2]", "protocol.resize_px=99"),
    ],
)
def test_an_override_that_the_row_does_not_have_is_refused(override: str) -> None:
    row = composed("dataset=synthetic", "loss=triplet")
    text = json.dumps([*json.loads(str(row["overrides"])), override])
    [message, *_] = messages(Row({**row.columns, "overrides": text}))
    assert message.startswith(f"overrides has {override!r}, but the row has ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("protocol_epochs", 800), ("protocol_lr", 0.5), ("protocol_version", 2), ("protocol_flip", True)],
        *[("protocol_trunk_frozen", True), ("protocol_clip_grad_norm", 1.0), ("protocol_resize_px", 99)],
        *[("trunk_mean", "[0, 0, 0]"), ("trunk_make_channels", "[1]"), ("optimizer_weight_decay", 0.5)],
        *[("loss_make_margin", 0.3), ("loss_make_distance_power", 1), ("loss_miner_type_of_triplets", "hard")],
        *[("loss_proxy_init", "unit"), ("loss_samples_per_class", 8)],
    ],
)
def test_a_value_that_neither_the_files_nor_an_override_have_is_refused(name: str, value: Any) -> None:
    row = composed("dataset=synthetic", "loss=triplet")
    assert name in row.columns
    assert any(
        message.startswith(f"{name} is {value!r}, but config_files make it") for message in messages(with_(row, name, value))
    )


def with_(row: Row, name: str, value: Any) -> Row:
    return Row({**row.columns, name: value})


def test_a_file_that_is_not_the_one_of_dmlbench_says_nothing() -> None:
    row = composed("dataset=synthetic", "loss=triplet")
    files = {**json.loads(str(row["config_files"])), "protocol/quick": "0" * 64}
    assert messages(Row({**row.columns, "config_files": json.dumps(files), "protocol_epochs": 800})) == []


def test_what_was_taken_out_of_an_override_is_not_compared() -> None:
    row = composed("dataset=synthetic", "loss=triplet", "+loss.make.file=/home/jane/x")
    text = str(row["overrides"]).replace("/home/jane/x", "(local path)")
    assert messages(Row({**row.columns, "overrides": text})) == []


CUB = {"split_rule": "zero_shot", "n_images": 11788, "n_test_classes": 100, "n_query_images": 5924, "n_gallery_images": 5924}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"schema_version": 1},
        {"schema_version": 1, "config_files": None, "overrides": None},
        {"config_files": "{}"},
        {"n_images_skipped": 1, "n_images": 11787},
        {"overrides": '["dataset=cub", "dataset.images=1"]'},
        {"overrides": '["dataset=cub", "dataset.make={}"]'},
    ],
    ids=str,
)
def test_counts_of_a_shipped_data_set_are_compared_whatever_else_a_row_says(changed: dict[str, Any]) -> None:
    row = Row({**composed("dataset=cub").columns, **CUB, **changed})
    assert changed == {"overrides": '["dataset=cub", "dataset.images=1"]'} or not messages(row)
    assert any(
        "n_test_classes is 98, but dataset/cub declares 100" in one for one in messages(with_(row, "n_test_classes", 98))
    )


def test_skipped_images_are_missing_from_the_counts() -> None:
    row = Row({**composed("dataset=cub").columns, **CUB, "n_images_skipped": 1})
    assert messages(row) == ["n_images is 11788, but dataset/cub declares 11788, and 1 were skipped"]
    assert messages(Row({**row.columns, "n_images": 11787, "n_query_images": 5923})) == []


def test_a_real_run_with_a_frozen_trunk_is_consistent(quick: Row) -> None:
    assert quick["protocol_trunk_frozen"] is True
    assert messages(quick) == []
    assert messages(with_(quick, "protocol_flip", True)) == ["protocol_flip is True, but a frozen trunk has False"]


def test_numbers_beyond_all_counts_and_models_without_folds_are_refused(quick: Row) -> None:
    from dmlbench.verification import row_findings

    for name in ("n_excluded", "n_tied_queries"):
        assert any(one.check == name for one in row_findings(with_(quick, name, 10**299)))
    assert any(one.check == "n_models" for one in row_findings(with_(quick, "n_models", 9)))
    assert any("a model per fold" in one.message for one in row_findings(with_(quick, "fold1_map_at_r", 0.5)))
    assert any(one.check == "protocol_version" for one in row_findings(with_(quick, "protocol_version", 10**299)))
    assert not list(row_findings(quick))


def test_a_path_in_an_override_does_not_read_a_file(tmp_path: Path) -> None:
    row = composed("dataset=synthetic", "loss=triplet")
    files = {**json.loads(str(row["config_files"])), f"protocol/../../{tmp_path}": "0" * 64}
    assert messages(Row({**row.columns, "config_files": json.dumps(files)})) == []
