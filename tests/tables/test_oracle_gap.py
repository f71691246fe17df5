"""The oracle gap: what choosing the epoch on the test set would have claimed above what is reported; on request, never bold."""

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
from dmlbench.tables.table import Line, Table, compare

GAPS = (0.01, 0.02, 0.06)


def study() -> list[Row]:
    """The untrained trunk, and contrastive with three gaps."""
    trained = [make_row(0.4 + 0.01 * seed, seed=seed, oracle_map_at_r=0.4 + 0.01 * seed + gap) for seed, gap in enumerate(GAPS)]
    return [make_row(0.1, loss="untrained"), *trained]


def one(rows: list[Row], **asked: object) -> Table:
    (table,) = compare(rows, oracle=True, **asked)  # type: ignore[arg-type]
    return table


def line_of(table: Table, loss: str) -> Line:
    (line,) = [line for line in table.lines if line.loss == loss]
    return line


def test_it_is_the_mean_of_the_differences_with_their_interval() -> None:
    gap = line_of(one(study()), "contrastive").oracle_gap
    assert gap is not None
    low, high = stats.t.interval(0.95, 2, sum(GAPS) / 3, stats.sem(GAPS))
    assert (gap.mean - gap.half_width, gap.mean + gap.half_width) == pytest.approx((low, high))  # type: ignore[operator]


def test_it_is_printed_only_on_request_and_the_caption_says_what_it_is() -> None:
    assert "Oracle gap: how much more MAP@R choosing the epoch on the test set would have claimed" in one(study()).caption
    (table,) = compare(study())
    assert "racle" not in markdown([table])


def test_it_is_never_bold_not_even_the_greatest() -> None:
    table = one([*study(), make_row(0.2, loss="triplet", oracle_map_at_r=0.9)])
    assert "70.0" in markdown([table])
    for text, bold in ((markdown([table]), "**70.0"), (latex([table]), r"\textbf{70.0"), (html([table]), "<strong>70.0")):
        assert bold not in text


def test_what_trains_nothing_has_no_epoch_to_choose_and_needs_no_note() -> None:
    line = line_of(one(study()), "untrained")
    assert (line.oracle_gap, line.notes) == (None, ("lacks seeds 1, 2, which other methods have",))


@pytest.mark.parametrize("hole", [None, math.nan, "0.5", True])
def test_no_mean_is_taken_over_seeds_that_do_not_tell_it(hole: object) -> None:
    rows = [
        *study(),
        *(make_row(loss="triplet", seed=seed, oracle_map_at_r=value) for seed, value in enumerate((0.6, hole, 0.6))),
    ]
    line = line_of(one(rows), "triplet")
    assert line.oracle_gap is None
    assert line.notes == ("no oracle gap for seed 1",)


def test_a_failed_line_has_none() -> None:
    failed = make_row(loss="triplet", seed=1, status="failed", reason="nan", oracle_map_at_r=0.9)
    line = line_of(one([*study(), make_row(loss="triplet", oracle_map_at_r=0.9), failed]), "triplet")
    assert line.oracle_gap is None
    assert not any("oracle" in note for note in line.notes)


def test_of_two_tables_only_that_which_knows_it_has_the_column() -> None:
    tables = compare([*study(), make_row(protocol_lr=0.1)], oracle=True)
    assert sorted(table.oracle for table in tables) == [False, True]


@pytest.mark.parametrize("value", [{}, {"oracle_map_at_r": None}, {"oracle_map_at_r": "0.5"}, {"oracle_map_at_r": math.nan}])
def test_it_cannot_be_asked_where_no_row_knows_it(value: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"--oracle: no row has the column oracle_map_at_r;.*oracle=true"):
        compare([make_row(**value)], oracle=True)


def test_csv_carries_it_as_a_fraction() -> None:
    lines = list(csv_reader.DictReader(io.StringIO(csv([one(study())]))))
    assert [line["oracle_gap"] for line in lines if line["loss"] == "untrained"] == [""]
    assert [float(line["oracle_gap"]) for line in lines if line["loss"] == "contrastive"] == pytest.approx([0.03])
