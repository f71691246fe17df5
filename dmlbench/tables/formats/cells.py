"""Heading, rows and footnotes of a table as text, for all printed formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tabulate

from dmlbench.results.formatting import metric_label
from dmlbench.results.literature import PublishedResult
from dmlbench.tables.table import Table
from dmlbench.tables.table_row import Cell, TableRow

MISSING = "--"
DECIMALS = 1
BELOW_THE_RULE = (
    "Below the line: published results, which are not comparable (trunk, crops, tuning and model selection differ); the "
    "footnotes name their sources"
)


@dataclass(frozen=True)
class Style:
    """How a format writes text that all formats have in common.

    Args:
        escape: Escapes plain text.
        bold: Template of bold text, with one field.
        plus_minus: Sign between mean and half width.
        marks: Template of footnote numbers, with one field.
        count: Heading of the column with the number of seeds.
    """

    escape: Callable[[str], str]
    bold: str
    plus_minus: str
    marks: str
    count: str


def percent(cell: Cell | None, plus_minus: str = "±") -> str:
    """Format a cell as percent.

    Args:
        cell: Mean and half width; None for a missing value.
        plus_minus: Sign between mean and half width.

    >>> percent(Cell(0.4812, 0.0071)), percent(Cell(0.4812, None)), percent(None)
    ('48.1 ± 0.7', '48.1', '--')
    """
    if cell is None:
        return MISSING
    mean = f"{100 * cell.mean:.{DECIMALS}f}"
    return mean if cell.half_width is None else f"{mean} {plus_minus} {100 * cell.half_width:.{DECIMALS}f}"


def layout(rows: Sequence[Sequence[str]], heading: Sequence[str], tablefmt: str, align: Sequence[str]) -> str:
    """Lay out cells with tabulate, without the padding that it adds to headings.

    Args:
        rows: Cells as text, escaped.
        heading: Names of the columns, escaped.
        tablefmt: Format of tabulate.
        align: `left` or `right` for each column.
    """
    before, tabulate.MIN_PADDING = tabulate.MIN_PADDING, 0
    try:
        return tabulate.tabulate(rows, heading, tablefmt=tablefmt, colalign=tuple(align), disable_numparse=True)
    finally:
        tabulate.MIN_PADDING = before


def n_left(table: Table) -> int:
    """Return the number of left-aligned text columns: the method, and its model selection if that differs.

    Args:
        table: A table.
    """
    return 1 + table.selection_differs


def alignments(table: Table) -> tuple[str, ...]:
    """Return the alignment of each column, `left` or `right`.

    Args:
        table: A table.
    """
    return ("left",) * n_left(table) + ("right",) * (1 + len(table.columns) + table.oracle + len(table.costs))


def heading(table: Table, style: Style) -> list[str]:
    """Return the names of the columns: method, selection, n, metrics, oracle gap, costs.

    Args:
        table: A table.
        style: How the format writes text.
    """
    left = ["Method", "Selection"][: n_left(table)]
    metrics = [style.escape(metric_label(metric)) for metric in table.columns]
    gap = ["Oracle gap"] if table.oracle else []
    return [*left, style.count, *metrics, *gap, *(style.escape(cost.heading) for cost in table.costs)]


def rows(table: Table, style: Style) -> list[list[str]]:
    """Return every measured row as text, with the best methods of each metric in bold.

    Args:
        table: A table.
        style: How the format writes text.
    """
    footnotes, costs = _footnotes(table), _costs(table)
    found = []
    for i, row in enumerate(table.rows):
        marks = ", ".join(str(mark) for mark in sorted(footnotes[note] for note in row.notes))
        left = [style.escape(row.label) + (style.marks.format(marks) if marks else ""), style.escape(row.selection or MISSING)]
        metrics = [_number(table, row, metric, style) for metric in table.columns]
        gap = [percent(row.oracle_gap, style.plus_minus)] if table.oracle else []
        found.append([*left[: n_left(table)], str(row.n), *metrics, *gap, *(column[i] for column in costs)])
    return found


def published_rows(table: Table, style: Style) -> list[list[str]]:
    """Return every published row as text, with the digits of the source, without intervals and never in bold.

    Args:
        table: A table.
        style: How the format writes text.
    """
    footnotes = _footnotes(table)
    found = []
    for one in table.published:
        marks = ", ".join(str(footnotes[note]) for note in _notes_of(one))
        left = [style.escape(f"{one.label} ({one.size})") + style.marks.format(marks), MISSING]
        cells = [all_digits(one.values.get(metric)) for metric in table.columns]
        others = [MISSING] * (table.oracle + len(table.costs))
        found.append([*left[: n_left(table)], MISSING, *cells, *others])
    return found


def all_digits(value: float | None) -> str:
    """Format a fraction as percent with all its digits and at least one decimal.

    Args:
        value: Fraction; None for a missing value.

    >>> all_digits(0.2955), all_digits(0.83), all_digits(None)
    ('29.55', '83.0', '--')
    """
    return MISSING if value is None else str(round(100 * value, 6))


def notes(table: Table, style: Style) -> list[str]:
    """Return the numbered footnotes of rows, then the details and warnings of the whole table.

    Args:
        table: A table.
        style: How the format writes text.
    """
    numbered = [f"{style.marks.format(i).strip()} {style.escape(note)}" for note, i in _footnotes(table).items()]
    below = [BELOW_THE_RULE] if table.published else []
    return numbered + [style.escape(note) for note in (*table.details, *table.notes, *below)]


def n_baselines(table: Table) -> int:
    """Return the number of rows at the top that are baselines; 0 if the table has no other rows.

    Args:
        table: A table.
    """
    baselines = sum(not row.trained for row in table.rows)
    return baselines if baselines < len(table.rows) else 0


def _number(table: Table, row: TableRow, metric: str, style: Style) -> str:
    text = percent(row.cells.get(metric), style.plus_minus)
    return style.bold.format(text) if is_bold(table, row, metric) else text


def is_bold(table: Table, row: TableRow, metric: str) -> bool:
    """Return whether to print a number in bold.

    Args:
        table: A table.
        row: One of its rows.
        metric: Name of the metric.

    Returns:
        Whether the method is best or not significantly worse than the best one; see `tables.bold`.
    """
    return row.label in table.bold.get(metric, ())


def _costs(table: Table) -> list[list[str]]:
    """Return each column of costs."""
    return [format_column([row.costs.get(cost.name) for row in table.rows]) for cost in table.costs]


def format_column(values: Sequence[float | None]) -> list[str]:
    """Format the numbers of one column: the largest with three significant digits, all with the same number of decimals.

    Args:
        values: Numbers; None for missing values.

    >>> format_column([0.0, 116.24, None, 12345.6]), format_column([1.416, 0.052]), format_column([0.00249])
    (['0', '116', '--', '12,346'], ['1.42', '0.05'], ['0.00249'])
    """
    largest = max((abs(value) for value in values if value is not None), default=0)
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), 6) if largest else 0
    return [MISSING if value is None else f"{value:,.{decimals}f}" for value in values]


def _footnotes(table: Table) -> dict[str, int]:
    """Return the number of each footnote; rows with the same footnote share its number."""
    measured = [note for row in table.rows for note in row.notes]
    sources = [note for one in table.published for note in _notes_of(one)]
    return {note: i for i, note in enumerate(dict.fromkeys(measured + sources), 1)}


def _notes_of(one: PublishedResult) -> list[str]:
    return [one.source.text, *([one.note] if one.note else [])]
