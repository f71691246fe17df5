"""Explanations of why rows are in one table or in several, for each field of a protocol."""

from __future__ import annotations

import dataclasses
import re

import pytest
from rows_factory import COST, make_row, make_study

from dmlbench.config.schema import Protocol, Scalar
from dmlbench.results.row import Row
from dmlbench.tables.explanation import explain
from dmlbench.tables.formats import html, latex, markdown
from dmlbench.tables.formats.latex_escape import escape as escape_latex
from dmlbench.tables.formats.markdown import escape as escape_markdown
from dmlbench.tables.table import Table, compare
from dmlbench.tables.table_differences import differences

FIELDS = [field.name for field in dataclasses.fields(Protocol)]
# Two values of each field; fields that are not listed have the values 3 and 7.
VALUES: dict[str, tuple[Scalar, Scalar]] = {
    "name": ("quick", "standard"),
    "crop_to_box": (False, True),
    "train_crop": ("random", "center"),
    "crop_scale": ("[0.16, 1.0]", "[0.5, 1.0]"),
    "crop_ratio": ("[0.75, 1.33]", "[1.0, 1.0]"),
    "flip": (True, False),
    "pooling": ("avg", "max"),
    "head_layers": ("[]", "[512]"),
    "head_norm": ("none", "layer"),
    "trunk_frozen": (False, True),
    "freeze_batch_norm": (True, False),
    "clip_grad_norm": (None, 1.0),
    "clip_grad_value": (None, 1.0),
    "schedule": ("constant", "cosine"),
    "mixed_precision": (True, False),
    "selection": ("last", "validation"),
    "fold": ("none", 0),
    "steps_per_epoch": (None, 100),
    "patience": (None, 5),
}
# Templates of the fields that captions contain; other fields are written as an assignment.
CAPTION_TEMPLATES = {
    "name": "protocol {} (",
    "version": "(version {})",
    "epochs": "{} epochs",
    "batch_size": "batch {}",
    "embedding_dim": "{}-d embedding",
    "image_px": "{} px",
}


def two_tables(field: str) -> tuple[str, tuple[Scalar, Scalar], list[Table]]:
    """Return the column of a field, two values, and the tables of rows that differ in this column."""
    column, values = "protocol" if field == "name" else f"protocol_{field}", VALUES.get(field, (3, 7))
    tables = compare([row for value in values for row in make_study(**{column: value}, **COST)])
    return column, values, tables


def printed(value: Scalar) -> str:
    return "none" if value is None else str(value)


@pytest.mark.parametrize("field", FIELDS)
def test_rows_that_differ_in_a_field_of_the_protocol_are_in_two_tables_that_differ_only_in_this_column(field: str) -> None:
    column, values, tables = two_tables(field)
    assert [len(table.rows) for table in tables] == [4, 4]
    (found,) = differences(tables).items()
    assert found[0] == column
    assert sorted(map(repr, found[1])) == sorted(map(repr, values))


@pytest.mark.parametrize("field", FIELDS)
def test_the_explanation_names_the_column_with_both_values(field: str) -> None:
    column, _, tables = two_tables(field)
    first, second = differences(tables)[column]
    text = explain(tables)
    assert "2 tables: rows are compared only if everything except loss and the seed is equal." in text
    assert f"Tables 1 and 2 differ in 1 column:\n  {column}  {printed(first)} | {printed(second)}\n" in text


@pytest.mark.parametrize("field", FIELDS)
def test_markdown_and_html_list_the_column_before_the_tables(field: str) -> None:
    column, _, tables = two_tables(field)
    first, second = map(printed, differences(tables)[column])
    assert f"\n- {escape_markdown(column)}: {escape_markdown(first)} | {escape_markdown(second)}\n" in markdown(tables)
    assert f"<li>{column}: {first} | {second}</li>" in html(tables)


@pytest.mark.parametrize("field", FIELDS)
def test_latex_tables_contain_the_value_of_the_column_in_the_caption_or_in_a_note(field: str) -> None:
    column, _, tables = two_tables(field)
    part = r"\\caption\{(.*)\}\n" if field in CAPTION_TEMPLATES else r"\\footnotesize .*?(In this table: .*)\}\n"
    texts = re.findall(part, latex(tables))
    template = CAPTION_TEMPLATES.get(field, f"In this table: {column} = {{}} ")
    values = [template.format(printed(value)) for value in differences(tables)[column]]
    assert [escape_latex(own) in text for own, text in zip(values, texts, strict=True)] == [True, True]
    assert [escape_latex(other) in text for other, text in zip(values[::-1], texts, strict=True)] == [False, False]


@pytest.mark.parametrize("field", FIELDS)
def test_the_axis_that_the_explanation_proposes_makes_one_table_per_loss(field: str) -> None:
    *_, tables = two_tables(field)
    (axis,) = re.findall(r"`--vary (.*?)` compares them", explain(tables))
    rows = [row for table in tables for one in table.rows for row in one.rows]
    assert [len(table.rows) for table in compare(rows, vary=axis)] == [2, 2, 2, 2]


def test_the_explanation_of_one_table_lists_what_all_rows_agree_in() -> None:
    text = explain(compare(make_study()))
    assert text.startswith("All rows are in one table: 12 rows, 4 methods, seeds 0, 1, 2.\n")
    assert "They agree in everything except loss and the seed:" in text
    assert re.search(r"^  dataset +digits ", text, re.MULTILINE)
    assert "epochs=6" in text


def test_the_explanation_of_one_table_contains_every_shared_column_with_its_value() -> None:
    row = make_row(tuning_trials=20, evaluation_rerank="none")
    text = " ".join(explain(compare([row])).split())
    for column, value in row.shared.items():
        name = re.sub("^(dataset|trunk|preset|protocol|optimizer|sampler|precision|split)_", "", column)
        shown = "loss.samples_per_class" if value == "${loss.samples_per_class}" else printed(value)[:8]
        assert (f"{name}={shown}" in text) or (f"{column} {printed(value)}" in text), column


def test_columns_that_a_chosen_file_determines_are_listed_with_it() -> None:
    tables = compare([make_row(), make_row(trunk="resnet50", trunk_width=2048)])
    text = explain(tables)
    assert "differ in 2 columns:\n  trunk  convnet | resnet50\n         and consequently trunk_width (32 | 2048)\n" in text
    assert "`--vary trunk` compares them, for one loss at a time." in text


def test_no_axis_is_proposed_if_none_makes_one_table() -> None:
    text = explain(compare([make_row(), make_row(trunk="resnet50", protocol_lr=0.1)]))
    assert "--vary" not in text


def test_a_column_that_only_one_table_has_is_not_set_in_the_other() -> None:
    text = explain(compare([make_row(), make_row(protocol_new=3)]))
    assert re.search(r"protocol_new  (not set \| 3|3 \| not set)\n", text)


def test_of_many_tables_each_is_compared_only_with_the_most_similar_one() -> None:
    rows = [make_row(protocol_lr=lr / 1000, protocol_epochs=epochs) for lr in range(1, 10) for epochs in range(1, 10)]
    tables = compare(rows)
    text = explain(tables)
    assert len(re.findall("^Tables ", text, re.MULTILINE)) == len(tables) - 1 == 80
    assert "Each table is compared with the most similar one before it." in text


@pytest.mark.parametrize("vary", ["trunk", "preset", "loss.make.neg_margin"])
def test_tables_of_other_axes_are_explained(vary: str) -> None:
    rows: list[Row] = [
        make_row(trunk=trunk, dataset=name, loss_make_neg_margin=m)
        for trunk, m in (("a", 1), ("b", 1), ("a", 2), ("b", 2))
        for name in "xy"
    ]
    text = explain(compare(rows, vary=vary), vary)
    assert f"everything except {vary} and the seed is equal" in text
    assert "dataset" in text


def test_an_optimizer_with_other_arguments_is_listed_with_these_arguments() -> None:
    rows = [make_row(), make_row(optimizer="sgd", optimizer_target="torch.optim.SGD", optimizer_weight_decay=0.1)]
    text = explain(compare(rows))
    assert "Tables 1 and 2 differ in 3 columns:" in text
    assert re.search(r"^  optimizer +adamw \| sgd$", text, re.MULTILINE)
    assert "and consequently optimizer_target (" in text
    assert "`--vary optimizer` compares them" in text


def test_each_pair_of_three_tables_is_explained() -> None:
    text = explain(compare([make_row(), make_row(protocol_epochs=9), make_row(optimizer_weight_decay=0.1)]))
    assert re.findall(r"Tables (\d) and (\d) differ", text) == [("1", "2"), ("1", "3"), ("2", "3")]


def test_no_line_has_more_than_100_characters() -> None:
    rows = [make_row(), make_row(trunk="resnet50", trunk_label="R", **{f"trunk_make_{k}": "x" * 30 for k in range(9)})]
    assert max(map(len, explain(compare(rows)).splitlines())) <= 100


def test_a_value_that_refers_to_the_method_is_named_as_a_key() -> None:
    text = explain(compare(make_study()))
    assert "samples_per_class=loss.samples_per_class" in text
    assert "${" not in text
