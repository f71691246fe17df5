import doctest
import json
import math
from pathlib import Path

import dmlbench.rows
import pytest
from dmlbench.rows import is_metric, is_shared, write_text
from rows_factory import make_row

from dmlbench.errors import UserError
from dmlbench.results.columns import REQUIRED, SCHEMA_VERSION
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, write_row


def test_a_row_is_read_back_as_it_was_written(tmp_path):
    row = make_row(loss_label="Größe ± 1", map_at_r=0.1 + 0.2)
    assert read_row(write_row(tmp_path / "a" / "run", row)) == row


def test_a_writer_killed_before_the_rename_leaves_the_old_row_whole(tmp_path, monkeypatch):
    old = make_row(0.1)
    path = write_row(tmp_path, old)
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        write_row(tmp_path, make_row(0.9))
    assert read_row(path) == old
    assert [file.name for file in tmp_path.iterdir()] == ["row.json"]


def test_a_writer_killed_before_the_rename_leaves_no_row_where_there_was_none(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        write_row(tmp_path, make_row())
    assert list(find_rows(tmp_path)) == []


def test_what_a_killed_writer_left_is_not_taken_for_a_row(tmp_path):
    (tmp_path / ".row.json.123.tmp").write_text('{"schema_ver')
    assert list(find_rows(tmp_path)) == []


def test_a_text_is_replaced_whole(tmp_path):
    write_text(tmp_path / "new" / "text", "long before")
    write_text(tmp_path / "new" / "text", "ü")
    assert (tmp_path / "new" / "text").read_text(encoding="utf-8") == "ü"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_its_column(tmp_path, value):
    with pytest.raises(ValueError, match="map_at_r"):
        write_row(tmp_path, make_row(map_at_r=value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("column", REQUIRED)
def test_a_row_without_a_required_column_is_refused(column):
    columns = dict(make_row().columns)
    del columns[column]
    with pytest.raises(UserError, match=f"'{column}'"):
        Row(columns)


def test_a_required_column_of_another_type_is_refused():
    with pytest.raises(UserError, match=r"'seed' \(int\), not '0'"):
        make_row(seed="0")


def test_a_row_of_a_newer_schema_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "row.json"
    path.write_text(json.dumps({**make_row().columns, "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(UserError, match=f"schema {SCHEMA_VERSION + 1} was written by a newer dmlbench") as error:
        read_row(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ['{"schema_version": 1, "run', "", "[1, 2]", '{"name": "of another program"}', "\x00"])
def test_a_torn_or_foreign_file_is_named(tmp_path, text):
    path = tmp_path / "row.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a row of dmlbench") as error:
        read_row(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"row\.json is not a row"):
        read_row(tmp_path / "row.json")


@pytest.mark.parametrize(
    "column",
    [
        *("dataset", "trunk", "protocol", "optimizer", "sampler", "precision", "split_digest", "split_seed"),
        *("trunk_weights_sha256", "protocol_epochs", "optimizer__target_", "sampler_samples_per_class"),
    ],
)
def test_what_must_be_equal_to_compare_is_shared(column):
    assert is_shared(column)


@pytest.mark.parametrize(
    "column",
    [
        *("loss", "loss_make_margin", "seed", "trunk_label", "trunk_weights", "dataset_label", "device"),
        *("train_seconds", "precision_at_1", "run_id", "method_digest", "selected_on"),
    ],
)
def test_what_may_differ_between_compared_rows_is_not_shared(column):
    assert not is_shared(column)


def test_metrics_are_told_from_columns_of_like_names():
    metrics = ("recall_at_1", "recall_at_1000", "precision_at_10", "r_precision", "map_at_r")
    others = (
        "recall_at_",
        "recall_at_one",
        "xrecall_at_1",
        "recall_at_1_half_width",
        "precision",
        "map_at_1",
    )
    assert all(map(is_metric, metrics))
    assert not any(map(is_metric, others))


def test_the_outcome_leaves_out_what_the_machine_and_the_moment_decide():
    assert make_row(train_seconds=1.0, finished_at="now").outcome == make_row(train_seconds=2.0).outcome


def test_rows_are_found_below_folders_and_by_name_each_once_in_order(tmp_path):
    paths = [write_row(tmp_path / name, make_row()) for name in ("b/loss/run", "a/loss/run", "a/loss/run10")]
    (tmp_path / "a" / "other.json").write_text("{}")
    assert list(find_rows(tmp_path, paths[0], tmp_path / "a")) == sorted(paths)
    assert list(find_rows(tmp_path / "a/loss/run")) == [paths[1]]


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(dmlbench.rows).failed == 0


def test_a_column_that_holds_no_scalar_is_refused() -> None:
    columns = dict(make_row(0.5).columns)
    with pytest.raises(UserError, match="column 'n_queries' holds"):
        Row({**columns, "n_queries": [1]})
