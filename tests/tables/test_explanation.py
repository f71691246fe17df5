"""Why rows stand in one table or in several, for each field of a protocol in turn."""

from __future__ import annotations

import dataclasses
import re
import time

import pytest
from rows_factory import COST, make_row, make_study

from dmlbench.config.schema import Protocol, Scalar
from dmlbench.results.row import Row
from dmlbench.tables.explanation import explain
from dmlbench.tables.formats import html, latex, markdown
from dmlbench.tables.formats.latex_escape import escaped as in_tex
from dmlbench.tables.formats.markdown import escaped as in_markdown
from dmlbench.tables.table import Table, compare, differences

FIELDS = [field.name for field in dataclasses.fields(Protocol)]
# Two values that a field can have; a field that is not here has the numbers 3 and 7.
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
    "schedule": ("constant", "cosine"),
    "mixed_precision": (True, False),
    "selection": ("last", "validation"),
    "fold": ("none", 0),
    "steps_per_epoch": (None, 100),
    "patience": (None, 5),
}
# What a caption says of these is no assignment.
IN_WORDS = {
    "name": "Protocol {}",
    "version": "(version {})",
    "epochs": "{} epochs",
    "batch_size": "batch {}",
    "embedding_dim": "{}-d embedding",
    "image_px": "{} px",
}


def mixed(field: str) -> tuple[str, tuple[Scalar, Scalar], list[Table]]:
    """The column of a field, two values, and the tables of a study whose rows differ in them."""
    column, values = "protocol" if field == "name" else f"protocol_{field}", VALUES.get(field, (3, 7))
    tables = compare([row for value in values for row in make_study(**{column: value}, **COST)])
    return column, values, tables


def word(value: Scalar) -> str:
    return "none" if value is None else str(value)


@pytest.mark.parametrize("field", FIELDS)
def test_rows_of_two_protocols_make_two_tables_that_differ_in_that_column_alone(field: str) -> None:
    column, values, tables = mixed(field)
    assert [len(table.lines) for table in tables] == [4, 4]
    (found,) = differences(tables).items()
    assert found[0] == column
    assert sorted(map(repr, found[1])) == sorted(map(repr, values))


@pytest.mark.parametrize("field", FIELDS)
def test_an_explanation_names_the_column_with_both_values(field: str) -> None:
    column, _, tables = mixed(field)
    first, second = differences(tables)[column]
    text = explain(tables)
    assert "2 tables, for rows stand side by side only where everything but loss and the seed is equal." in text
    assert f"Tables 1 and 2 differ in 1 column:\n  {column}  {word(first)} | {word(second)}\n" in text


@pytest.mark.parametrize("field", FIELDS)
def test_markdown_and_html_say_it_before_the_tables(field: str) -> None:
    column, _, tables = mixed(field)
    first, second = map(word, differences(tables)[column])
    assert f"\n- {in_markdown(column)}: {in_markdown(first)} | {in_markdown(second)}\n" in markdown(tables)
    assert f"<li>{column}: {first} | {second}</li>" in html(tables)


@pytest.mark.parametrize("field", FIELDS)
def test_the_captions_of_two_floats_tell_them_apart_by_it(field: str) -> None:
    column, _, tables = mixed(field)
    captions = re.findall(r"\\caption\{(.*)\}\n", latex(tables))
    told = [IN_WORDS.get(field, f"Here {column} = {{}}.").format(word(value)) for value in differences(tables)[column]]
    assert [in_tex(mine) in caption for mine, caption in zip(told, captions, strict=True)] == [True, True]
    assert [in_tex(other) in caption for other, caption in zip(told[::-1], captions, strict=True)] == [False, False]


@pytest.mark.parametrize("field", FIELDS)
def test_the_axis_that_an_explanation_proposes_makes_one_table_of_each_loss(field: str) -> None:
    *_, tables = mixed(field)
    (axis,) = re.findall(r"`vary=(.*?)` would set these side by side", explain(tables))
    rows = [row for table in tables for line in table.lines for row in line.rows]
    assert [len(table.lines) for table in compare(rows, vary=axis)] == [2, 2, 2, 2]


def test_one_table_says_what_all_rows_agree_in() -> None:
    text = explain(compare(make_study()))
    assert text.startswith("All rows stand in one table: 12 rows, 4 methods, seeds 0, 1, 2.\n")
    assert "They agree in everything but loss and the seed:" in text
    assert re.search(r"^  dataset +digits ", text, re.MULTILINE)
    assert "epochs=6" in text


def test_every_shared_column_and_value_of_one_table_is_named() -> None:
    row = make_row(tuning_trials=20, evaluation_rerank="none")
    text = " ".join(explain(compare([row])).split())
    for column, value in row.shared.items():
        name = re.sub("^(dataset|trunk|preset|protocol|optimizer|sampler|precision|split)_", "", column)
        assert (f"{name}={word(value)[:8]}" in text) or (f"{column} {word(value)}" in text), column


def test_what_a_name_brings_along_is_told_with_it() -> None:
    tables = compare([make_row(), make_row(trunk="resnet50", trunk_width=2048)])
    text = explain(tables)
    assert "differ in 2 columns:\n  trunk  convnet | resnet50\n         and with it trunk_width (32 | 2048)\n" in text
    assert "`vary=trunk` would set these side by side, one loss at a time." in text


def test_no_axis_is_proposed_where_none_makes_them_one() -> None:
    text = explain(compare([make_row(), make_row(trunk="resnet50", protocol_lr=0.1)]))
    assert "vary=" not in text


def test_a_column_that_only_one_table_has_is_absent_from_the_other() -> None:
    text = explain(compare([make_row(), make_row(protocol_new=3)]))
    assert re.search(r"protocol_new  (\(absent\) \| 3|3 \| \(absent\))\n", text)


def test_of_many_tables_each_is_set_against_one_and_it_does_not_take_long() -> None:
    rows = [make_row(protocol_lr=lr / 1000, protocol_epochs=epochs) for lr in range(1, 16) for epochs in range(1, 16)]
    tables = compare(rows)
    started = time.process_time()
    text = explain(tables)
    assert time.process_time() - started < 5
    assert len(re.findall("^Tables ", text, re.MULTILINE)) == len(tables) - 1 == 224
    assert "Each table is set against the one before it that it is most like." in text


@pytest.mark.parametrize("vary", ["trunk", "preset", "loss.make.neg_margin"])
def test_tables_of_other_axes_are_explained_too(vary: str) -> None:
    rows: list[Row] = [
        make_row(trunk=trunk, dataset=name, loss_make_neg_margin=m)
        for trunk, m in (("a", 1), ("b", 1), ("a", 2), ("b", 2))
        for name in "xy"
    ]
    text = explain(compare(rows, vary=vary), vary)
    assert f"everything but {vary} and the seed is equal" in text
    assert "dataset" in text


def test_what_a_choice_brings_along_is_told_with_it() -> None:
    rows = [make_row(), make_row(optimizer="sgd", optimizer__target_="torch.optim.SGD", optimizer_weight_decay=0.1)]
    said = explain(compare(rows))
    assert "Tables 1 and 2 differ in 3 columns:" in said
    assert re.search(r"^  optimizer +adamw \| sgd$", said, re.MULTILINE)
    assert "and with it" in said
    assert "`vary=optimizer` would set these side by side" in said


def test_each_pair_of_three_tables_is_told() -> None:
    said = explain(compare([make_row(), make_row(protocol_epochs=9), make_row(optimizer_weight_decay=0.1)]))
    assert re.findall(r"Tables (\d) and (\d) differ", said) == [("1", "2"), ("1", "3"), ("2", "3")]


def test_no_line_is_longer_than_a_hundred_letters() -> None:
    rows = [make_row(), make_row(trunk="resnet50", trunk_label="R", **{f"trunk_make_{k}": "x" * 30 for k in range(9)})]
    assert max(map(len, explain(compare(rows)).splitlines())) <= 100
