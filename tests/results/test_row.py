"""A result row: its columns, how it is written and read, and which columns have which role."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import pytest
from rows_factory import make_row

import dmlbench.results.columns
import dmlbench.results.formatting
from dmlbench.errors import UserError
from dmlbench.results.columns import REQUIRED, SCHEMA_VERSION, column
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, write_row
from dmlbench.system.atomic_write import atomic_write


def test_a_row_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    row = make_row(loss_label="Größe ± 1", map_at_r=0.1 + 0.2)
    assert read_row(write_row(tmp_path / "a" / "run", row)) == row


def fail_before_rename(self: Path, target: Path) -> None:
    raise OSError("killed")


def test_a_write_that_fails_before_the_rename_keeps_the_old_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_row(0.1)
    path = write_row(tmp_path, old)
    monkeypatch.setattr(Path, "replace", fail_before_rename)
    with pytest.raises(OSError, match="killed"):
        write_row(tmp_path, make_row(0.9))
    assert read_row(path) == old
    assert [file.name for file in tmp_path.iterdir()] == ["row.json"]


def test_a_write_that_fails_before_the_rename_creates_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", fail_before_rename)
    with pytest.raises(OSError, match="killed"):
        write_row(tmp_path, make_row())
    assert list(find_rows(tmp_path)) == []


def test_the_temporary_file_of_a_killed_process_is_not_a_row(tmp_path: Path) -> None:
    (tmp_path / ".row.json.123.tmp").write_text('{"schema_ver')
    assert list(find_rows(tmp_path)) == []


def test_atomic_write_replaces_the_whole_text(tmp_path: Path) -> None:
    atomic_write(tmp_path / "new" / "text", "a long text")
    atomic_write(tmp_path / "new" / "text", "ü")
    assert (tmp_path / "new" / "text").read_text(encoding="utf-8") == "ü"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_with_its_column(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="map_at_r"):
        write_row(tmp_path, make_row(map_at_r=value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", REQUIRED)
def test_a_row_without_a_required_column_is_refused(name: str) -> None:
    columns = dict(make_row().columns)
    del columns[name]
    with pytest.raises(UserError, match=f"'{name}'"):
        Row(columns)


def test_a_required_column_of_another_type_is_refused() -> None:
    with pytest.raises(UserError, match=r"'seed' \(int\), not '0'"):
        make_row(seed="0")


def test_a_column_that_is_not_a_scalar_is_refused() -> None:
    columns = dict(make_row(0.5).columns)
    with pytest.raises(UserError, match="column 'n_queries' holds"):
        Row({**columns, "n_queries": [1]})  # type: ignore[dict-item]  # the error under test


def test_a_row_of_a_newer_schema_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text(json.dumps({**make_row().columns, "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UserError, match=f"schema {SCHEMA_VERSION + 1} was written by a newer dmlbench") as error:
        read_row(path)
    assert str(path) in str(error.value)
    assert f"up to {SCHEMA_VERSION}" in str(error.value)


@pytest.mark.parametrize("text", ['{"schema_version": 1, "run', "", "[1, 2]", '{"name": "of another program"}', "\x00"])
def test_an_incomplete_or_foreign_file_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "row.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a row of dmlbench") as error:
        read_row(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row\.json is not a row of dmlbench: No such file"):
        read_row(tmp_path / "row.json")


@pytest.mark.parametrize(
    "name",
    [
        *("dataset", "trunk", "protocol", "optimizer", "sampler", "precision", "split_digest", "split_seed"),
        *(
            "trunk_weights_sha256",
            "protocol_epochs",
            "optimizer_target",
            "sampler_samples_per_class",
            "protocol_of_the_future",
        ),
    ],
)
def test_columns_that_must_be_equal_in_compared_rows_are_shared(name: str) -> None:
    assert column(name).role == "shared"


@pytest.mark.parametrize(
    "name",
    [
        *("loss", "loss_make_margin", "seed", "trunk_label", "trunk_weights", "dataset_label", "device"),
        *("train_seconds", "precision_at_1", "run_id", "method_digest", "selected_on", "overrides", "config_files"),
    ],
)
def test_columns_that_may_differ_between_compared_rows_are_not_shared(name: str) -> None:
    assert column(name).role != "shared"


def test_columns_with_names_similar_to_a_metric_are_not_metrics() -> None:
    metrics = ("recall_at_1", "recall_at_1000", "precision_at_10", "r_precision", "map_at_r")
    others = ("recall_at_", "recall_at_one", "xrecall_at_1", "recall_at_1_half_width", "precision", "map_at_1")
    assert {column(name).role for name in metrics} == {"metric"}
    assert "metric" not in {column(name).role for name in others}


def test_the_outcome_of_a_row_does_not_contain_what_depends_on_machine_and_time() -> None:
    varying = {"train_seconds": 1.0, "finished_at": "now", "overrides": '["seed=1"]', "config_files": '{"a": "b"}'}
    assert make_row(**varying).outcome == make_row(train_seconds=2.0).outcome


def test_a_metric_may_exceed_its_range_by_a_rounding_error_only() -> None:
    assert make_row(nmi=1 + 1e-9).number("nmi") == 1 + 1e-9
    assert make_row(nmi=1.01).number("nmi") is None


def test_rows_are_found_below_directories_and_by_name_each_once_in_order(tmp_path: Path) -> None:
    paths = [write_row(tmp_path / name, make_row()) for name in ("b/loss/run", "a/loss/run", "a/loss/run10")]
    (tmp_path / "a" / "other.json").write_text("{}")
    assert list(find_rows(tmp_path, paths[0], tmp_path / "a")) == sorted(paths)
    assert list(find_rows(tmp_path / "a/loss/run")) == [paths[1]]


@pytest.mark.parametrize("module", [dmlbench.results.columns, dmlbench.results.formatting, dmlbench.results.column_specs])
def test_the_examples_in_the_docstrings_are_correct(module: object) -> None:
    assert doctest.testmod(module, globs={**vars(module), "column": column}).failed == 0  # type: ignore[arg-type]
