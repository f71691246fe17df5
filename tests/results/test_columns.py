"""The column registry: every column is declared, and new columns do not change existing rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rows_factory import COST, make_row

import dmlbench.results.columns as registry
import dmlbench.results.row
from dmlbench.config.files import conf_dir
from dmlbench.config.identity import MOVED_TARGETS
from dmlbench.config.schema import GROUPS, UNSET, Protocol, setting
from dmlbench.results.column_specs import COLUMNS, Column
from dmlbench.results.columns import SCHEMA_VERSION, column, fingerprint, method_digest
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.results.row_files import read_rows
from dmlbench.tables.table import compare


@pytest.fixture(scope="module")
def row(small_run: Path) -> Row:
    """Return the row of the smallest run."""
    (found,), skipped = read_rows(small_run / "runs")
    assert skipped == []
    return found


# --- declarations


def test_every_column_of_a_run_is_declared(row: Row) -> None:
    assert [name for name in row.columns if column(name).meaning == "Not declared."] == []


def test_every_column_of_the_rows_in_tests_is_declared() -> None:
    names = make_row(**COST, nmi=0.5, nmi_std=0.1).columns
    assert [name for name in names if column(name).meaning == "Not declared."] == []


def test_an_undeclared_column_is_a_result() -> None:
    assert (column("of_the_future").role, column("of_the_future").meaning) == ("result", "Not declared.")


def test_no_column_is_declared_twice() -> None:
    names = [one.name for one in COLUMNS]
    assert sorted(names) == sorted(set(names))


def test_every_declaration_has_a_meaning_that_is_a_sentence() -> None:
    assert [
        one.name for one in COLUMNS if not one.meaning.endswith(".") or not (one.meaning[0].isupper() or one.meaning[0] == "`")
    ] == []


@pytest.mark.parametrize(
    ("name", "role", "heading"),
    [
        ("train_seconds", "cost", "Train (s)"),  # an exact name comes before the family `*_seconds`
        ("download_seconds", "cost", "download_seconds (s)"),
        ("protocol_epochs", "shared", "protocol_epochs"),
        ("protocol_of_the_future", "shared", "protocol_of_the_future"),
        ("trunk_label", "identity", "trunk_label"),  # not of the family `trunk_*`
        ("trunk_make_depth", "shared", "trunk_make_depth"),
        ("loss_make_margin", "method", "loss_make_margin"),
        ("fold3_map_at_r", "result", "fold3_map_at_r"),
        ("concatenated_map_at_r", "metric", "MAP@R concat."),
        ("effective_rank", "result", "Effective rank"),
        ("nmi_std", "result", "nmi_std"),
        ("numpy_version", "provenance", "numpy_version"),
        ("tuned_map_at_r", "provenance", "tuned_map_at_r"),
    ],
)
def test_a_column_has_the_declaration_of_its_name_or_of_its_family(name: str, role: str, heading: str) -> None:
    found = column(name)
    assert (found.name, found.role, found.heading) == (name, role, heading)


def test_every_field_of_a_protocol_is_a_declared_column_with_the_meaning_of_its_docstring() -> None:
    elsewhere = {"split", "recall_at", "chunk_size"}  # columns `split_*`, and one that need not be equal
    for field in dataclasses.fields(Protocol):
        if field.name in elsewhere:
            continue
        name = "protocol" if field.name == "name" else f"protocol_{field.name}"
        assert column(name).role == "shared"
        assert column(name).meaning != column("protocol_of_the_future").meaning


# --- the value before a column existed


def fields_whose_default_changes_old_rows(cls: type) -> list[str]:
    """Return the fields that appeared later and whose default is not the value that describes older rows."""
    fields = [one for one in dataclasses.fields(cls) if one.metadata.get("before", UNSET) is not UNSET]
    return [one.name for one in fields if one.metadata["before"] != one.default]


@pytest.mark.parametrize("cls", GROUPS.values(), ids=lambda cls: cls.__name__)
def test_the_default_of_a_later_field_is_the_behaviour_of_older_rows(cls: type) -> None:
    assert fields_whose_default_changes_old_rows(cls) == []


def test_a_later_field_with_another_default_is_found() -> None:
    wrong = dataclasses.make_dataclass("Wrong", [("dropout", float, setting(0.1, since=3, before=0.0))])
    assert fields_whose_default_changes_old_rows(wrong) == ["dropout"]


@pytest.mark.parametrize("arguments", [{"since": 3}, {"before": 0}])
def test_a_later_field_needs_the_version_and_the_value_of_older_rows(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a field with `since` > 1 needs `before`"):
        setting(0, **arguments)


NEXT = SCHEMA_VERSION + 1
LATER = (
    Column("protocol_dropout", "shared", "Later.", group="protocol", since=NEXT, before=0.0),
    Column("loss_power", "method", "Later.", group="loss", since=NEXT, before=None),
    Column("tuning_restarts", "shared", "Later.", group="tuning", since=NEXT, before=1),
    Column("evaluation_norm", "shared", "Later.", group="evaluation", since=NEXT, before="l2"),
    Column("interpolation", "shared", "Later.", since=NEXT, before="bicubic"),
)


@pytest.fixture
def later_columns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Declare columns of the next version of the schema."""
    declared = {one.name: one for one in LATER}
    monkeypatch.setattr(registry, "_LATER", {**registry._LATER, **declared})
    monkeypatch.setattr(registry, "_EXACT", {**registry._EXACT, **declared})
    monkeypatch.setattr(dmlbench.results.row, "SCHEMA_VERSION", NEXT)
    caches = (column, registry._migration, dmlbench.results.row._by_role)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


def without(row: Row, *names: str) -> dict[str, Any]:
    """Return the columns of a row, except for some: what an older version wrote."""
    return {name: value for name, value in row.columns.items() if name not in names}


def test_fingerprint_and_method_digest_of_existing_columns_do_not_depend_on_later_columns(
    row: Row, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    shared, method = row.shared, {name: value for name, value in row.method.items() if name != "loss"}
    before = fingerprint(shared), method_digest(method)
    assert before == (row["fingerprint"], row["method_digest"])
    request.getfixturevalue("later_columns")
    assert (fingerprint(shared), method_digest(method)) == before
    assert fingerprint({**shared, "protocol_dropout": 0.0}) == before[0]
    assert method_digest({**method, "loss_power": None}) == before[1]


@pytest.mark.usefixtures("later_columns")
def test_another_value_of_a_later_column_changes_the_digest(row: Row) -> None:
    assert fingerprint({**row.shared, "protocol_dropout": 0.1}) != row["fingerprint"]
    assert method_digest({**row.method, "loss_power": 2}) != method_digest(row.method)


# --- migration


@pytest.fixture(params=[{}, {"schema_version": 1}, {"schema_version": NEXT}], ids=["current", "schema 1", "next"])
def written(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return columns as a run wrote them, before the later columns were declared."""
    columns: dict[str, Any] = {**make_row().columns, **request.param}
    request.getfixturevalue("later_columns")
    return columns


def test_a_later_column_is_added_to_rows_that_have_other_columns_of_its_group(written: dict[str, Any]) -> None:
    untuned = Row(written)
    assert (untuned["protocol_dropout"], untuned["loss_power"]) == (0.0, None)
    assert "tuning_restarts" not in untuned.columns
    assert "evaluation_norm" not in untuned.columns
    tuned = Row({**written, "tuning_trials": 20, "evaluation_distance": "cosine"})
    assert (tuned["tuning_restarts"], tuned["evaluation_norm"]) == (1, "l2")
    of_runs = ("protocol_", "loss_", "lr_from")
    external = Row({name: value for name, value in written.items() if not name.startswith(of_runs)})
    assert "protocol_dropout" not in external.columns
    assert "loss_power" not in Row({**external.columns, "loss_label": "A label is not a hyper-parameter"}).columns


def test_a_later_column_without_a_group_is_added_to_every_row(written: dict[str, Any]) -> None:
    assert Row(written)["interpolation"] == "bicubic"
    assert Row({**written, "protocol": EXTERNAL})["interpolation"] == "bicubic"


@pytest.mark.usefixtures("later_columns")
def test_migration_keeps_values_that_a_row_has_and_its_schema_version() -> None:
    row = make_row(protocol_dropout=0.5, interpolation=None)
    assert (row["protocol_dropout"], row["interpolation"], row["schema_version"]) == (0.5, None, SCHEMA_VERSION)


def test_documented_values_of_older_rows_are_those_of_a_row_that_was_read() -> None:
    later = {one.name: one.before for one in COLUMNS if one.since > 1 and not one.group}
    assert {"overrides", "config_files", "dataset_source"} <= set(later)
    columns = without(make_row(schema_version=1), *later)
    assert Row(columns).columns.items() >= later.items()


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION])
@pytest.mark.parametrize("old", MOVED_TARGETS)
def test_the_path_of_a_constructor_that_has_moved_is_migrated_in_every_row(old: str, version: int) -> None:
    row = make_row(schema_version=version, trunk_make_target=old)
    assert row["trunk_make_target"] == MOVED_TARGETS[old]


def test_a_row_whose_file_names_a_former_path_is_in_one_table_with_a_row_of_the_current_path() -> None:
    former, current = next(iter(MOVED_TARGETS.items()))
    [table] = compare([make_row(seed=seed, sampler_target=path) for seed, path in enumerate((former, current))])
    assert table.rows[0].n == 2


def test_a_row_of_schema_1_and_a_row_of_the_current_schema_are_in_one_table() -> None:
    old_path, new_path = next(iter(MOVED_TARGETS.items()))
    columns = dict(make_row(schema_version=1, sampler_target=old_path).columns)
    old = Row({name: value for name, value in columns.items() if name not in ("overrides", "config_files")})
    [table] = compare([old, make_row(seed=1, sampler_target=new_path)])
    assert table.rows[0].n == 2
    assert old.overrides is None


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION, NEXT])
def test_a_row_without_later_columns_and_a_row_with_their_defaults_are_in_one_table(
    version: int, request: pytest.FixtureRequest
) -> None:
    old = without(make_row(tuning_trials=20, schema_version=min(version, SCHEMA_VERSION)))
    request.getfixturevalue("later_columns")
    defaults = {one.name: one.before for one in LATER if one.group != "evaluation"}
    digest = {"method_digest": old["method_digest"], "schema_version": NEXT, "tuning_trials": 20}
    rows = [Row({**old, "schema_version": version}), make_row(seed=1, **{**defaults, **digest})]
    [table] = compare(rows)
    assert [one.n for one in table.rows] == [2]
    for name, value in {"protocol_dropout": 0.1, "tuning_restarts": 2, "interpolation": "bilinear"}.items():
        assert len(compare([*rows, make_row(seed=2, **{**defaults, **digest, name: value})])) == 2


# --- provenance


def test_a_row_records_its_overrides_and_the_digest_of_each_chosen_file(row: Row) -> None:
    assert row.overrides is not None
    assert {"loss=untrained", "protocol.image_px=16"} <= set(row.overrides)
    files = json.loads(str(row["config_files"]))
    assert set(files) >= {"dataset/synthetic", "loss/untrained", "protocol/quick", "trunk/convnet", "optimizer/adamw"}
    content = (conf_dir() / "loss" / "untrained.yaml").read_bytes()
    assert files["loss/untrained"] == hashlib.sha256(content).hexdigest()
