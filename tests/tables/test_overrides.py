"""Captions list what was overridden on the command line, as each row recorded it, whatever configuration files say today."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rows_factory import make_row

from dmlbench.cli import run
from dmlbench.config.files import conf_dir
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_rows, write_row
from dmlbench.tables.table import compare
from dmlbench.tables.table_differences import with_differences

SMALL_DATA = ("dataset=synthetic", "dataset.make.classes=4", "dataset.make.images_per_class=2", "dataset.make.image_px=16")


def row_with(overrides: Sequence[str], **columns: object) -> Row:
    return make_row(overrides=json.dumps(list(overrides)), **columns)


def caption_of(*rows: Row, vary: str = "loss") -> str:
    [table] = compare(rows, vary=vary)
    return table.caption


# --- which overrides are listed


def test_an_override_is_listed_with_the_value_of_the_row() -> None:
    row = row_with(["protocol.lr=1e-1"], protocol_lr=0.1)
    assert "adamw; overridden: protocol.lr=0.1. Scores" in caption_of(row)


def test_overrides_are_listed_in_alphabetical_order() -> None:
    row = row_with(["protocol.lr=0.001", "optimizer.weight_decay=0.0001", "protocol.flip=false"], protocol_flip=False)
    assert "overridden: optimizer.weight_decay=0.0001, protocol.flip=false, protocol.lr=0.001." in caption_of(row)


@pytest.mark.parametrize(
    ("override", "columns", "listed"),
    [
        ("protocol.patience=null", {"protocol_patience": None}, "protocol.patience=null"),
        ("protocol.head_layers=[512]", {"protocol_head_layers": "[512]"}, "protocol.head_layers=[512]"),
        ("+optimizer.amsgrad=true", {"optimizer_amsgrad": True}, "optimizer.amsgrad=true"),
        ("++optimizer.amsgrad=true", {"optimizer_amsgrad": True}, "optimizer.amsgrad=true"),
        ("~optimizer.eps", {}, "optimizer.eps removed"),
        ("trunk.make={_target_: Net}", {"trunk_make_target": "Net"}, "trunk.make={_target_: Net}"),
        ("sampler=shuffle", {"sampler": "shuffle"}, "sampler=shuffle"),
        ("dataset.make.image_px=16", {}, "dataset.make.image_px=16"),
        ("dataset.split=half_per_class", {}, "dataset.split=half_per_class"),
        ("dataset.manifest=list.csv", {}, "dataset.manifest=list.csv"),
        ("dataset.on_unreadable=skip", {}, "dataset.on_unreadable=skip"),
    ],
)
def test_all_kinds_of_overrides_are_listed(override: str, columns: dict[str, object], listed: str) -> None:
    assert f"overridden: {listed}." in caption_of(row_with([override], **columns))


@pytest.mark.parametrize(
    "override",
    [
        "protocol=quick",
        "trunk=convnet",
        "loss.make.neg_margin=0.5",  # the name of the row contains hyper-parameters that differ
        "loss=triplet",
        "dataset=digits",
    ],
)
def test_overrides_that_the_table_shows_elsewhere_are_not_listed(override: str) -> None:
    assert "overridden" not in caption_of(row_with([override]))


def test_a_value_that_captions_contain_is_listed_once_as_overridden() -> None:
    row = row_with(["protocol.epochs=2", "protocol.batch_size=24", "optimizer=sgd"], protocol_epochs=2, optimizer="sgd")
    listed = "64-d embedding, 32 px; overridden: optimizer=sgd, protocol.batch_size=64, protocol.epochs=2."
    assert f"protocol quick (version 1): {listed}" in caption_of(row)


def test_an_overridden_value_that_distinguishes_tables_is_printed_once() -> None:
    tables = compare([make_row(), row_with(["protocol.lr=0.01"], protocol_lr=0.01)])
    assert ["overridden: protocol.lr=0.01." in table.caption for table in tables] == [False, True]
    first, second = with_differences(tables)
    assert first.details[0] == "In this table: protocol_lr = 0.001"
    assert not any("In this table" in detail for detail in second.details)


def test_the_axis_of_a_table_is_not_listed() -> None:
    rows = [row_with([f"protocol.lr={lr}", "protocol.flip=false"], protocol_lr=lr, protocol_flip=False) for lr in (0.1, 0.2)]
    assert "overridden: protocol.flip=false." in caption_of(*rows, vary="protocol.lr")


def test_a_value_that_only_some_rows_override_is_listed_as_such() -> None:
    rows = [row_with(["protocol.lr=0.001", "protocol.flip=false"], protocol_flip=False)]
    rows.append(row_with(["protocol.flip=false"], protocol_flip=False, seed=1))
    assert "adamw; overridden: protocol.flip=false; overridden in some rows: protocol.lr=0.001." in caption_of(*rows)


def test_different_files_with_the_same_images_are_overridden_in_some_rows() -> None:
    rows = [row_with([f"dataset.manifest={name}.csv"], seed=seed) for seed, name in enumerate("ab")]
    assert "adamw; overridden in some rows: dataset.manifest=a.csv, dataset.manifest=b.csv." in caption_of(*rows)


def test_values_that_a_frozen_trunk_replaces_are_not_listed() -> None:
    columns = {"protocol_trunk_frozen": True, "protocol_flip": False, "protocol_train_crop": "center", "protocol_lr": 0.1}
    overrides = ["protocol.flip=true", "protocol.lr=0.1", "protocol.train_crop=random_resized", "protocol.trunk_frozen=true"]
    assert "overridden: protocol.lr=0.1, protocol.trunk_frozen=true." in caption_of(row_with(overrides, **columns))


def test_without_overrides_nothing_is_listed() -> None:
    assert "overrid" not in caption_of(make_row())


# --- rows that were written earlier


@pytest.fixture
def row_of_schema_1(tmp_path: Path) -> Path:
    """Write a row of schema 1, which has no column `overrides`, and return its directory."""
    columns = dict(make_row(schema_version=1, protocol_lr=0.1).columns)
    row = Row({name: value for name, value in columns.items() if name not in ("overrides", "config_files")})
    assert row.get("overrides") is None
    write_row(tmp_path / "run", row)
    return tmp_path / "run"


def test_the_overrides_of_a_row_of_schema_1_are_read_from_the_file_beside_it(row_of_schema_1: Path) -> None:
    (row_of_schema_1 / "words.json").write_text('["loss=contrastive", "protocol.lr=0.1", "seed=0"]')
    [row], _ = read_rows(row_of_schema_1)
    assert row.overrides == ("loss=contrastive", "protocol.lr=0.1", "seed=0")
    assert "overridden: protocol.lr=0.1." in caption_of(row)


@pytest.mark.parametrize("text", [None, "{", "null", "\xff"])
def test_the_caption_says_if_overrides_were_not_recorded(row_of_schema_1: Path, text: str | None) -> None:
    if text is not None:
        (row_of_schema_1 / "words.json").write_bytes(text.encode("latin-1"))
    [row], _ = read_rows(row_of_schema_1)
    assert row.overrides is None
    assert "adamw; overrides were not recorded. Scores" in caption_of(row)


def test_known_overrides_are_listed_even_if_another_row_has_not_recorded_its_own() -> None:
    rows = [row_with(["protocol.lr=0.001"]), make_row(seed=1, overrides=None)]
    assert "overridden: protocol.lr=0.001; the overrides of some rows were not recorded." in caption_of(*rows)


def test_an_evaluation_of_a_row_of_schema_1_has_the_overrides_of_that_row(row_of_schema_1: Path) -> None:
    (row_of_schema_1 / "words.json").write_text('["protocol.lr=0.1"]')
    text = (row_of_schema_1 / "row.json").read_text()
    (row_of_schema_1 / "evaluate-1").mkdir()
    evaluation = json.dumps({**json.loads(text), "parent": "a", "run_id": "b"})
    (row_of_schema_1 / "evaluate-1" / "row.json").write_text(evaluation)
    [row], _ = read_rows(row_of_schema_1 / "evaluate-1")
    assert row.overrides == ("protocol.lr=0.1",)


def test_nothing_is_said_about_the_overrides_of_external_embeddings() -> None:
    assert "overrides" not in caption_of(make_row(protocol="external", trunk="external", overrides=None))


# --- a configuration file that changes after the run


def train(*overrides: str) -> None:
    assert run(["train", "loss=untrained", *SMALL_DATA, "workers=0", "device=cpu", *overrides, "--config-dir", "conf"]) == 0


def test_the_caption_of_a_row_does_not_change_if_its_configuration_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("conf/protocol/own.yaml")
    file.parent.mkdir(parents=True)
    text = (conf_dir() / "protocol" / "quick.yaml").read_text(encoding="utf-8").replace("image_px: 32", "image_px: 16")
    file.write_text(text, encoding="utf-8")
    train("protocol=own", "protocol.warmup_epochs=1")
    [before] = compare(read_rows(Path("runs"))[0])
    assert "protocol own (version 1): 8 epochs, batch 64, 64-d embedding, 16 px, adamw; overridden:" in before.caption
    assert before.caption.endswith("protocol.warmup_epochs=1. Scores in %, one seed (n = 1).")
    assert "dataset.make.classes=4" in before.caption

    file.write_text(text.replace("lr: 1.0e-3", "lr: 2.0e-3").replace("epochs: 8", "epochs: 9"), encoding="utf-8")
    [after] = compare(read_rows(Path("runs"))[0])
    assert after.caption == before.caption

    train("protocol=own")
    captions = {table.shared["protocol_lr"]: table.caption for table in compare(read_rows(Path("runs"))[0])}
    assert captions[0.001] == before.caption
    assert "9 epochs" in captions[0.002]
    assert "protocol.lr=" not in captions[0.002]

    file.unlink()
    assert run(["table"]) == 0
    assert "protocol.warmup_epochs=1." in " ".join(capsys.readouterr().out.split())
