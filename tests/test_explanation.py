"""Why rows stand in one table or in several: for every field of the protocol, so that a new one cannot be forgotten."""

import dataclasses
import re

import pytest
from rows_factory import make_row, make_study

from dmlbench.explanation import explain
from dmlbench.plan import Protocol
from dmlbench.render import csv, html, latex, markdown
from dmlbench.table import compare, differences

FIELDS = [spec.name for spec in dataclasses.fields(Protocol)]


def column(field: str) -> str:
    return "protocol" if field == "name" else f"protocol_{field}"


@pytest.mark.parametrize("field", FIELDS)
def test_rows_that_differ_in_one_field_of_the_protocol_are_two_tables_that_say_which(field: str) -> None:
    name = column(field)
    tables = compare([make_row(0.4, **{name: "one"}), make_row(0.5, loss="triplet", **{name: "two"})], cost=False)
    assert [[line.loss for line in table.lines] for table in tables] == [["contrastive"], ["triplet"]]
    assert differences(tables) == {name: ("one", "two")}
    assert re.search(rf"^  {name}  one \| two$", explain(tables), re.MULTILINE)
    assert f"- {name}: one | two" in markdown(tables)
    assert f"<li>{name}: one | two</li>" in html(tables)
    captions = re.findall(r"\\caption\{(.*)\}", latex(tables))
    assert len(set(captions)) == 2
    assert "one" in captions[0]
    assert "two" in captions[1]
    assert {line.split(",")[tables_header(csv(tables)).index(name)] for line in csv(tables).splitlines()[1:]} == {"one", "two"}


def tables_header(text: str) -> list[str]:
    return text.splitlines()[0].split(",")


@pytest.mark.parametrize("field", FIELDS)
def test_the_field_may_be_the_axis_and_then_the_two_are_one_table(field: str) -> None:
    name = column(field)
    rows = [make_row(0.4, **{name: 1 if field != "name" else "one"}), make_row(0.5, **{name: 2 if field != "name" else "two"})]
    [table] = compare(rows, vary="protocol" if field == "name" else f"protocol.{field}")
    assert len(table.lines) == 2


def test_rows_of_one_table_are_told_how_many_they_are_and_what_they_agree_in() -> None:
    said = explain(compare(make_study()))
    assert said.startswith("All rows stand in one table: 12 rows, 4 methods, seeds 0, 1, 2.\n")
    assert re.search(r"^  dataset +digits \(split_digest=01234567, split_seed=0\)$", said, re.MULTILINE)
    assert "loss" not in re.findall(r"^  (\w+)", said, re.MULTILINE)


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


def test_of_many_tables_each_is_set_against_the_one_that_it_is_most_like() -> None:
    said = explain(compare([make_row(protocol_epochs=n) for n in range(1, 8)]))
    assert said.count(" differ in ") == 6
    assert "Each table is set against the one before it that it is most like." in said


def test_no_line_is_longer_than_a_hundred_letters() -> None:
    rows = [make_row(), make_row(trunk="resnet50", trunk_label="R", **{f"trunk_make_{k}": "x" * 30 for k in range(9)})]
    assert max(map(len, explain(compare(rows)).splitlines())) <= 100
