"""The oracle gap: the additional MAP@R that choosing the epoch on the test set would have claimed."""

from __future__ import annotations

import csv as csv_reader
import io
import math

import pytest
from rows_factory import make_row
from scipy import stats

from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.tables.formats import csv, html, latex, markdown
from dmlbench.tables.table import Table, compare
from dmlbench.tables.table_row import TableRow

GAPS = (0.01, 0.02, 0.06)


def study() -> list[Row]:
    """Make rows of the untrained trunk, and of a method with three gaps."""
    trained = [make_row(0.4 + 0.01 * seed, seed=seed, oracle_map_at_r=0.4 + 0.01 * seed + gap) for seed, gap in enumerate(GAPS)]
    return [make_row(0.1, loss="untrained"), *trained]


def only_table(rows: list[Row], **options: bool) -> Table:
    (table,) = compare(rows, oracle=True, **options)  # type: ignore[arg-type]
    return table


def row_of(table: Table, loss: str) -> TableRow:
    (row,) = [row for row in table.rows if row.loss == loss]
    return row


def test_the_gap_is_the_mean_difference_over_seeds_with_its_interval() -> None:
    gap = row_of(only_table(study()), "contrastive").oracle_gap
    assert gap is not None
    low, high = stats.t.interval(0.95, 2, sum(GAPS) / 3, stats.sem(GAPS))
    assert (gap.mean - gap.half_width, gap.mean + gap.half_width) == pytest.approx((low, high))  # type: ignore[operator]


def test_the_gap_is_printed_only_on_request_with_an_explanation_below_the_table() -> None:
    explanation = (
        "Oracle gap: additional MAP@R that choosing the epoch on the test set would have claimed; it affects no result"
    )
    assert explanation in only_table(study()).details
    assert "| Oracle gap |" in markdown([only_table(study())])
    (table,) = compare(study())
    assert "racle" not in markdown([table])


def test_the_gap_is_never_bold() -> None:
    rows = [*study(), *(make_row(0.2, loss="triplet", oracle_map_at_r=0.9, seed=seed) for seed in range(3))]
    table = only_table(rows, tested=False)
    assert "70.0" in markdown([table])
    assert table.bold["map_at_r"]
    for text, bold in ((markdown([table]), "**70.0"), (latex([table]), r"\textbf{70.0"), (html([table]), "<strong>70.0")):
        assert bold not in text


def test_the_untrained_trunk_has_no_gap_and_no_footnote_about_it() -> None:
    row = row_of(only_table(study()), "untrained")
    assert (row.oracle_gap, row.notes) == (None, ("no seeds 1, 2, which other methods have",))


@pytest.mark.parametrize("missing", [None, math.nan, "0.5", True])
def test_missing_gaps_are_not_averaged_and_a_footnote_names_the_seed(missing: object) -> None:
    rows = [
        *study(),
        *(make_row(loss="triplet", seed=seed, oracle_map_at_r=value) for seed, value in enumerate((0.6, missing, 0.6))),
    ]
    row = row_of(only_table(rows), "triplet")
    assert row.oracle_gap is None
    assert row.notes == ("no oracle gap for seed 1",)


def test_a_method_with_a_failed_run_has_no_gap() -> None:
    failed = make_row(loss="triplet", seed=1, status="failed", reason="nan", oracle_map_at_r=0.9)
    row = row_of(only_table([*study(), make_row(loss="triplet", oracle_map_at_r=0.9), failed]), "triplet")
    assert row.oracle_gap is None
    assert not any("oracle" in note for note in row.notes)


def test_only_tables_whose_rows_have_the_column_print_the_gap() -> None:
    tables = compare([*study(), make_row(protocol_lr=0.1)], oracle=True)
    assert sorted(table.oracle for table in tables) == [False, True]


@pytest.mark.parametrize("value", [{}, {"oracle_map_at_r": None}, {"oracle_map_at_r": "0.5"}, {"oracle_map_at_r": math.nan}])
def test_requesting_the_gap_is_refused_if_no_row_has_the_column(value: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"--oracle: no row has the column oracle_map_at_r;.*oracle=true"):
        compare([make_row(**value)], oracle=True)


def test_csv_contains_the_gap_as_a_fraction() -> None:
    lines = list(csv_reader.DictReader(io.StringIO(csv([only_table(study())]))))
    assert [line["oracle_gap"] for line in lines if line["loss"] == "untrained"] == [""]
    assert [float(line["oracle_gap"]) for line in lines if line["loss"] == "contrastive"] == pytest.approx([0.03])
