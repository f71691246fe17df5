"""Costs of methods: means over seeds in the printed unit, never averaged over missing values, never bold."""

from __future__ import annotations

import math
import re
import statistics

import pytest
from rows_factory import COST, make_row, make_study

from dmlbench.results.column_specs import Column
from dmlbench.results.columns import TABLE_COSTS
from dmlbench.results.row import Row
from dmlbench.tables.costs import costs_of, machine_warning
from dmlbench.tables.formats import html, latex, markdown
from dmlbench.tables.table import Table, compare
from dmlbench.tables.table_row import TableRow

TUNED = {**COST, "tuned_hours": 1.5, "tuning_trials": 20}


def only_table(rows: list[Row], **options: object) -> Table:
    (table,) = compare(rows, **options)  # type: ignore[arg-type]
    return table


def row_of(table: Table, loss: str) -> TableRow:
    (row,) = [row for row in table.rows if row.loss == loss]
    return row


def printed_costs(table: Table) -> dict[str, list[str]]:
    """Return the last cells of each row of a markdown table, by method."""
    lines = [line.strip("|").split("|") for line in markdown([table]).splitlines() if line.startswith("| ")]
    return {re.sub(r" \[.*", "", line[0].strip()): [cell.strip() for cell in line[-len(table.costs) :]] for line in lines}


def rows_with(column: str, values: list[object], **columns: object) -> list[Row]:
    """Make one row per seed, which differ in one cost."""
    return [make_row(seed=seed, **{**TUNED, **columns, column: value}) for seed, value in enumerate(values)]


@pytest.mark.parametrize("cost", TABLE_COSTS, ids=lambda cost: cost.name)
def test_a_cost_is_the_mean_over_seeds_in_the_printed_unit(cost: Column) -> None:
    values = [3_000_000, 5_000_000, 7_000_000]
    columns = cost.sum_of or (cost.name,)
    table = only_table(rows_with(columns[0], values))  # type: ignore[arg-type]
    others = sum(TUNED[column] for column in columns[1:])
    expected = statistics.fmean((value + others) / cost.scale for value in values)
    assert table.rows[0].costs[cost.name] == pytest.approx(expected)


def test_parameters_are_millions_of_model_and_loss_together() -> None:
    table = only_table([make_row(**COST)])
    assert table.rows[0].costs["n_parameters"] == pytest.approx(2.4)
    assert "Par. (M)" in markdown([table])


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, "120", True])
def test_missing_costs_are_not_averaged_and_a_footnote_names_the_seed(missing: object) -> None:
    table = only_table(rows_with("train_seconds", [100.0, missing, 140.0]))
    (row,) = table.rows
    assert row.costs["train_seconds"] is None
    assert row.costs["memory_gib"] == 1.25
    assert row.notes == ("no Train (s) for seed 1",)
    assert "[1] no Train (s) for seed 1" in markdown([table])


def test_costs_that_are_missing_for_the_same_seeds_share_a_footnote() -> None:
    incomplete = make_row(seed=1, **{**TUNED, "train_seconds": None, "memory_gib": None, "n_loss_parameters": None})
    table = only_table([make_row(**TUNED), incomplete])
    assert table.rows[0].notes == ("no Train (s), Mem. (GiB), Par. (M) for seed 1",)


def test_a_method_with_a_failed_run_has_no_costs_and_no_second_footnote() -> None:
    failed = make_row(loss="triplet", seed=1, status="failed", reason="nan", **COST)
    table = only_table([make_row(**COST), make_row(seed=1, **COST), make_row(loss="triplet", **COST), failed])
    row = row_of(table, "triplet")
    assert set(row.costs.values()) == {None}
    assert row.notes == ("seed 1 failed: nan",)


def test_the_untrained_trunk_has_no_speed_and_no_tuning_time_and_needs_no_footnote() -> None:
    untrained = make_row(loss="untrained", **{**TUNED, "images_per_second": None, "tuned_hours": None})
    row = row_of(only_table([make_row(**TUNED), untrained]), "untrained")
    assert (row.costs["images_per_second"], row.costs["tuned_hours"]) == (None, None)
    assert row.notes == ()


def test_a_method_that_was_not_tuned_has_no_tuning_time_and_needs_no_footnote() -> None:
    table = only_table([make_row(**COST), make_row(loss_samples_per_class=8, **TUNED)], vary="preset")
    assert {row.costs["tuned_hours"] for row in table.rows} == {None, 1.5}
    assert all(row.notes == () for row in table.rows)


def test_a_tuned_method_without_tuning_time_has_a_footnote() -> None:
    table = only_table([make_row(**TUNED), make_row(loss="triplet", **{**TUNED, "tuned_hours": None})])
    assert row_of(table, "triplet").notes == ("no Tuning (h) for seed 0",)


def test_a_cost_that_no_row_has_is_not_printed() -> None:
    assert costs_of([make_row()]) == ()
    table = only_table([make_row(memory_gib=math.nan, train_seconds=1.0)])
    assert [cost.name for cost in table.costs] == ["train_seconds"]
    assert "Costs are means over seeds, on cpu" in table.details
    assert not any("Costs" in sentence for sentence in only_table([make_row()]).details)


def test_without_costs_neither_columns_nor_notes_mention_them() -> None:
    rows = [make_row(**COST), make_row(loss="triplet", **{**COST, "hostname": "beta"})]
    table = only_table(rows, cost=False)
    assert (table.costs, table.notes) == ((), ())
    assert "Cost" not in " ".join([table.caption, *table.details])
    assert "Train (s)" not in markdown([table])


def test_costs_do_not_affect_scores_and_bold() -> None:
    slow = {**COST, "train_seconds": 1e6}
    pairs = [
        [make_row(0.4, seed=seed, **costs[0]), make_row(0.5, loss="triplet", seed=seed, **costs[1])]
        for costs in ((COST, slow), ({}, {}))
        for seed in (0, 1)
    ]
    with_costs, without = (only_table([*one, *other], tested=False) for one, other in (pairs[:2], pairs[2:]))
    assert [row.cells for row in with_costs.rows] == [row.cells for row in without.rows]
    assert with_costs.bold == without.bold != {}


@pytest.mark.parametrize(
    ("columns", "origin"),
    [
        ({"hostname": "beta"}, "2 machines"),
        ({"device": "cuda"}, "2 kinds of device"),
        ({"hostname": "beta", "device": "cuda"}, "2 machines"),
    ],
)
def test_costs_of_several_machines_are_marked_as_not_comparable(columns: dict[str, str], origin: str) -> None:
    rows = [make_row(**COST), make_row(loss="triplet", **{**COST, **columns})]
    warning = f"time, speed and memory are not comparable because the rows come from {origin}"
    assert machine_warning(rows) == [warning]
    assert f"T{warning[1:]}" in only_table(rows).notes


def test_parameters_alone_are_comparable_between_machines() -> None:
    counts = {"n_model_parameters": 10, "n_loss_parameters": 0}
    assert only_table([make_row(hostname="a", **counts), make_row(loss="triplet", hostname="b", **counts)]).notes == ()


def test_no_cost_is_bold_in_any_format() -> None:
    rows = [
        make_row(score, loss=loss, seed=seed, **COST) for loss, score in (("triplet", 0.5), ("arcface", 0.4)) for seed in (0, 1)
    ]
    tables = [only_table(rows, metrics=["map_at_r"], tested=False)]
    assert re.findall(r"\*\*(.*?)\*\*", markdown(tables)) == ["50.0 ± 0.0"]
    assert re.findall(r"textbf\{(.*?)\}", latex(tables)) == [r"50.0 $\pm$ 0.0"]
    assert re.findall(r"<strong>(.*?)</strong>", html(tables)) == ["50.0 ± 0.0"]


def test_latex_prints_costs_in_a_separate_tabular() -> None:
    text = latex([only_table(make_study(**COST))])
    scores, costs = re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert "MAP@R" in scores
    assert "MAP@R" not in costs
    assert "Train (s)" in costs
    for part in (scores, costs):
        lines = [line for line in part.splitlines() if line.endswith(r"\\")]
        assert len(lines) == 5
        assert len({line.count("&") for line in lines}) == 1


def test_every_cost_of_a_table_has_a_label_and_a_meaning_for_the_documentation() -> None:
    assert [cost.heading for cost in TABLE_COSTS] == ["Train (s)", "Images/s", "Mem. (GiB)", "Par. (M)", "Tuning (h)"]
    assert all(cost.meaning.endswith(".") for cost in TABLE_COSTS)


def test_printed_costs_have_no_interval() -> None:
    rows = [make_row(seed=seed, **{**COST, "train_seconds": 100.0 + seed}) for seed in range(3)]
    for text in printed_costs(only_table(rows))["Contrastive"]:
        assert re.fullmatch(r"[\d.,]+", text)
