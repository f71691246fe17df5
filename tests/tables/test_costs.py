"""What a line cost: means over seeds in the unit that the head says, never averaged over holes, never bold."""

from __future__ import annotations

import doctest
import math
import re
import statistics

import pytest
from rows_factory import COST, make_row, make_study

import dmlbench.tables.costs
from dmlbench.results.row import Row
from dmlbench.tables.costs import COSTS, costs_of, machines_apart
from dmlbench.tables.formats import html, latex, markdown
from dmlbench.tables.table import Line, Table, compare

ALIKE = {**COST, "tuned_hours": 1.5, "tuning_trials": 20}


def one(rows: list[Row], **asked: object) -> Table:
    (table,) = compare(rows, **asked)  # type: ignore[arg-type]
    return table


def line_of(table: Table, loss: str) -> Line:
    (line,) = [line for line in table.lines if line.loss == loss]
    return line


def cells(table: Table) -> dict[str, list[str]]:
    """Method to the last cells of its line in markdown: the costs."""
    lines = [line.strip("|").split("|") for line in markdown([table]).splitlines() if line.startswith("| ")]
    return {re.sub(r" \[.*", "", line[0].strip()): [cell.strip() for cell in line[-len(table.costs) :]] for line in lines}


def rows_of(column: str, values: list[object], **columns: object) -> list[Row]:
    """A row a seed, which differ in one cost."""
    return [make_row(seed=seed, **{**ALIKE, **columns, column: value}) for seed, value in enumerate(values)]


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.name)
def test_a_cost_is_the_mean_over_seeds_in_the_unit_of_print(cost: dmlbench.tables.costs.Cost) -> None:
    values = [3_000_000, 5_000_000, 7_000_000]
    table = one(rows_of(cost.columns[0], values))  # type: ignore[arg-type]
    others = sum(ALIKE[column] for column in cost.columns[1:])
    expected = statistics.fmean((value + others) / cost.scale for value in values)
    assert table.lines[0].costs[cost.name] == pytest.approx(expected)


def test_parameters_are_millions_of_model_and_loss_together() -> None:
    table = one([make_row(**COST)])
    assert table.lines[0].costs["parameters of model and loss"] == pytest.approx(2.4)
    assert "Par. (M)" in markdown([table])


@pytest.mark.parametrize("hole", [None, math.nan, math.inf, "120", True])
def test_no_mean_is_taken_over_a_seed_that_does_not_tell_its_cost(hole: object) -> None:
    table = one(rows_of("train_seconds", [100.0, hole, 140.0]))
    (line,) = table.lines
    assert line.costs["training seconds"] is None
    assert line.costs["memory"] == 1.25
    assert line.notes == ("no training seconds for seed 1",)
    assert "[1] no training seconds for seed 1" in markdown([table])


def test_costs_that_the_same_seeds_lack_share_a_footnote() -> None:
    bare = make_row(seed=1, **{**ALIKE, "train_seconds": None, "memory_gib": None, "n_loss_parameters": None})
    table = one([make_row(**ALIKE), bare])
    assert table.lines[0].notes == ("no training seconds, memory, parameters of model and loss for seed 1",)


def test_a_failed_line_costs_nothing_that_could_be_compared_and_needs_no_second_note() -> None:
    failed = make_row(loss="triplet", seed=1, status="failed", reason="nan", **COST)
    table = one([make_row(**COST), make_row(seed=1, **COST), make_row(loss="triplet", **COST), failed])
    line = line_of(table, "triplet")
    assert set(line.costs.values()) == {None}
    assert line.notes == ("seed 1 failed: nan",)


def test_the_untrained_trunk_has_no_speed_and_no_tuning_and_that_is_no_hole() -> None:
    untrained = make_row(loss="untrained", **{**ALIKE, "images_per_second": None, "tuned_hours": None})
    line = line_of(one([make_row(**ALIKE), untrained]), "untrained")
    assert (line.costs["images/s"], line.costs["hours of tuning"]) == (None, None)
    assert line.notes == ()


def test_a_recipe_that_was_not_tuned_has_no_hours_of_tuning_and_that_is_no_hole() -> None:
    rows = [make_row(**COST), make_row(method_digest="b" * 8, **ALIKE)]
    lines = one(rows, vary="preset").lines
    assert {line.costs["hours of tuning"] for line in lines} == {None, 1.5}
    assert all(line.notes == () for line in lines)


def test_a_tuned_method_that_does_not_tell_its_hours_has_a_hole() -> None:
    table = one([make_row(**ALIKE), make_row(loss="triplet", **{**ALIKE, "tuned_hours": None})])
    assert line_of(table, "triplet").notes == ("no hours of tuning for seed 0",)


def test_a_cost_that_no_row_tells_is_no_column() -> None:
    assert costs_of([make_row()]) == ()
    table = one([make_row(memory_gib=math.nan, train_seconds=1.0)])
    assert [cost.name for cost in table.costs] == ["training seconds"]
    assert "Cost on cpu, means over seeds: training seconds." in table.caption


def test_without_cost_nothing_is_said_of_it() -> None:
    rows = [make_row(**COST), make_row(loss="triplet", **{**COST, "hostname": "beta"})]
    table = one(rows, cost=False)
    assert (table.costs, table.notes) == ((), ())
    assert "Cost" not in table.caption
    assert "Train (s)" not in markdown([table])


def test_costs_decide_nothing() -> None:
    with_costs = one([make_row(0.4, **COST), make_row(0.5, loss="triplet", **{**COST, "train_seconds": 1e6})])
    without = one([make_row(0.4), make_row(0.5, loss="triplet")])
    assert [line.cells for line in with_costs.lines] == [line.cells for line in without.lines]
    assert (with_costs.best("map_at_r"), with_costs.even) == (without.best("map_at_r"), without.even)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"hostname": "beta"}, "2 machines"),
        ({"device": "cuda"}, "2 kinds of device"),
        ({"hostname": "beta", "device": "cuda"}, "2 machines"),
    ],
)
def test_times_of_several_machines_are_marked_as_not_comparable(columns: dict[str, str], words: str) -> None:
    rows = [make_row(**COST), make_row(loss="triplet", **{**COST, **columns})]
    said = f"time, speed and memory are not comparable: the rows come from {words}"
    assert machines_apart(rows) == [said]
    assert said in one(rows).notes


def test_parameters_alone_are_the_same_on_any_machine() -> None:
    counts = {"n_model_parameters": 10, "n_loss_parameters": 0}
    assert one([make_row(hostname="a", **counts), make_row(loss="triplet", hostname="b", **counts)]).notes == ()


def test_no_cost_is_bold_in_any_format() -> None:
    tables = [one([make_row(0.4, **COST), make_row(0.5, loss="triplet", **COST)], metrics=["map_at_r"])]
    assert re.findall(r"\*\*(.*?)\*\*", markdown(tables)) == ["50.0"]
    assert re.findall(r"textbf\{(.*?)\}", latex(tables)) == ["50.0"]
    assert re.findall(r"<strong>(.*?)</strong>", html(tables)) == ["50.0"]


def test_latex_has_the_costs_in_a_tabular_of_their_own() -> None:
    text = latex([one(make_study(**COST))])
    scores, costs = re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert "MAP@R" in scores
    assert "MAP@R" not in costs
    assert "Train (s)" in costs
    for part in (scores, costs):
        lines = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert len(lines) == 5
        assert len({line.count("&") for line in lines}) == 1


def test_every_cost_says_what_it_is_in_the_caption() -> None:
    columns = {name: 1.0 for cost in COSTS for name in cost.columns}
    caption = one([make_row(**columns)]).caption
    assert all(cost.name in caption for cost in COSTS)


def test_a_cost_is_never_bold_and_has_no_interval() -> None:
    rows = [make_row(seed=seed, **{**COST, "train_seconds": 100.0 + seed}) for seed in range(3)]
    for text in cells(one(rows))["Contrastive"]:
        assert re.fullmatch(r"[\d.,]+", text)


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(dmlbench.tables.costs).failed == 0
