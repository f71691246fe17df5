"""A table as HTML cells: the text of `tables.formats`, the values to sort by, and the intervals and seeds to show on hover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dmlbench.report.figure import Method, score_hint
from dmlbench.results.formatting import metric_label
from dmlbench.results.row import Row
from dmlbench.tables.costs import cost_of
from dmlbench.tables.formats import cells, render
from dmlbench.tables.formats.html import STYLE
from dmlbench.tables.table import Table
from dmlbench.tables.table_row import TableRow


@dataclass(frozen=True)
class HtmlCell:
    """A cell.

    Args:
        text: Escaped text, as `dmlbench table --format html` writes it.
        value: Number to sort by; empty if there is none.
        hint: Interval and seeds; empty for text.
    """

    text: Markup
    value: str = ""
    hint: str = ""


@dataclass(frozen=True)
class HtmlRow:
    """A row.

    Args:
        cells: Its cells; the first one is its heading.
        method: The method; None for published results.
    """

    cells: Sequence[HtmlCell]
    method: Method | None = None


@dataclass(frozen=True)
class HtmlTable:
    """A table.

    Args:
        heading: Names of the columns, escaped.
        n_left: Number of left-aligned columns.
        bodies: Rows in groups with a rule between them: baselines, methods, published results.
        notes: Footnotes and details, escaped.
        seeds: Heading and rows of the scores of each seed.
        sources: Name of a format to the table in it.
    """

    heading: Sequence[Markup]
    n_left: int
    bodies: Sequence[Sequence[HtmlRow]]
    notes: Sequence[Markup]
    seeds: tuple[Sequence[str], Sequence[Sequence[str]]]
    sources: dict[str, str]


def html_table(table: Table, methods: Sequence[Method]) -> HtmlTable:
    """Make the cells of a table.

    Args:
        table: A table.
        methods: Its methods.
    """
    rows = html_rows(table, methods)
    published = [HtmlRow([HtmlCell(Markup(one)) for one in texts]) for texts in cells.published_rows(table, STYLE)]
    n_baselines = cells.n_baselines(table)
    bodies = [rows[:n_baselines], rows[n_baselines:], published]
    return HtmlTable(
        heading=[Markup(one) for one in cells.heading(table, STYLE)],
        n_left=cells.n_left(table),
        bodies=[body for body in bodies if body],
        notes=[Markup(one) for one in cells.notes(table, STYLE)],
        seeds=_seeds(table),
        sources={name: render([table], name) for name in ("markdown", "latex", "csv")},
    )


def html_rows(table: Table, methods: Sequence[Method]) -> list[HtmlRow]:
    """Make the cells of the measured rows of a table.

    Args:
        table: A table.
        methods: Its methods.
    """
    return [_row(table, method, texts) for method, texts in zip(methods, cells.rows(table, STYLE), strict=True)]


def _row(table: Table, method: Method, texts: Sequence[str]) -> HtmlRow:
    row, n_left = method.row, cells.n_left(table)
    found = [HtmlCell(Markup(one)) for one in texts[:n_left]]
    numbers: list[tuple[float | None, str]] = [(row.n, ", ".join(f"seed {seed}" for seed in row.seeds))]
    for metric in table.columns:
        cell = row.cells.get(metric)
        numbers.append((None if cell is None else cell.mean, f"{metric_label(metric)}: {score_hint(row, metric)}"))
    if table.oracle:
        numbers.append((None if row.oracle_gap is None else row.oracle_gap.mean, ""))
    numbers += [(row.costs.get(cost.name), _cost_hint(row, cost.name, table)) for cost in table.costs]
    for text, (value, hint) in zip(texts[n_left:], numbers, strict=True):
        found.append(HtmlCell(Markup(text), "" if value is None else repr(float(value)), hint))
    return HtmlRow(found, method)


def _cost_hint(row: TableRow, name: str, table: Table) -> str:
    cost = next(one for one in table.costs if one.name == name)
    return f"{cost.heading}: " + "; ".join(f"seed {one.seed}: {_number(cost_of(one, cost))}" for one in row.rows[:10])


def _seeds(table: Table) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return all metrics of every run with two decimals, for readers without a pointer."""
    heading = ["Method", "Seed", *map(metric_label, table.metrics)]
    return heading, [[one.label, str(run.seed), *_scores(run, table.metrics)] for one in table.rows for run in one.rows]


def _scores(run: Row, metrics: Sequence[str]) -> list[str]:
    values = [run.number(metric) for metric in metrics]
    return [cells.MISSING if value is None else f"{100 * value:.2f}" for value in values]


def _number(value: float | None) -> str:
    return cells.MISSING if value is None else f"{value:,.4g}"
