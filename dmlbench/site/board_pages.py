"""The pages of data sets and protocols: tables with ranks, pictures, and entries that are in no table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from markupsafe import Markup

from dmlbench.report.cost_plot import cost_figure
from dmlbench.report.figure import Figure, Method, methods_of
from dmlbench.report.interval_plot import interval_figure
from dmlbench.report.score_table import HtmlCell, html_rows
from dmlbench.site.catalogue import Board
from dmlbench.site.export import tables_csv
from dmlbench.site.facts import shared_facts
from dmlbench.site.rank_plot import rank_figure
from dmlbench.site.render import Writer, clipped, fragment, pages_of, split
from dmlbench.site.standings import Standing, Standings
from dmlbench.tables.formats import cells, render
from dmlbench.tables.formats.html import STYLE
from dmlbench.tables.table import Table
from dmlbench.verification import Tier

MAX_LISTED = 50  # tables in the list at the top of a page
MAX_DRAWN = 40  # methods in a picture
T = TypeVar("T")
Links = Mapping[Standings, str]
MAX_LABEL = 120  # characters of the name of a method in a table
MAX_SEEDS = 5  # links to entries in a row; the page of the method has all


@dataclass(frozen=True)
class BoardRow:
    """A row of a table.

    Args:
        method: Its method, as it is drawn.
        standing: Its rank, tier and entries.
        name: The cell with its name.
        cells: Its other cells, without the number of seeds.
    """

    method: Method
    standing: Standing
    name: HtmlCell
    cells: Sequence[HtmlCell]


def write_board(writer: Writer, board: Board, published: str) -> Links:
    """Write the page of a data set and protocol, and its tables as CSV.

    Args:
        writer: Writes files.
        board: The entries.
        published: Path of the page with published numbers on the data set; empty if there are none.

    Returns:
        Path of each table.
    """
    page, tables = board.key.page, board.standings
    parts: list[Markup] = []
    first_parts: dict[Standings, int] = {}
    titles = Counter(one.title for one in tables)
    for table in tables:
        first_parts[table] = len(parts)
        more = f" ({table.brief})" if titles[table.title] > 1 and table.distinction else ""
        parts += _table_parts(
            table, page, f"{_numbered(table)}: {clipped(f'{table.title}{more}', 120)}" if len(tables) > 1 else ""
        )
    parts += _apart_parts(board, page)
    pages = pages_of(page, parts)
    links = {table: f"{pages[i]}#{table.anchor}" for table, i in first_parts.items()}
    writer.pages(
        page,
        "board.html",
        parts,
        board=board,
        tables=list(links.items()),
        max_listed=MAX_LISTED,
        published=published,
        trunks=sorted({one.trunk for one in tables}),
        trainings=sorted({one.frozen for one in tables}),
        tiers=[tier for tier in Tier if any(one.tier is tier for table in tables for one in table.methods)],
        max_seeds=max((one.row.n for table in tables for one in table.methods), default=1),
    )
    if tables:
        writer.file(board.key.csv, tables_csv(tables))
    return links


def _numbered(standings: Standings) -> str:
    return standings.anchor.capitalize().replace("-", " ")


def _table_parts(standings: Standings, page: str, title: str) -> Iterator[Markup]:
    """Yield a table with its pictures; a long table in several parts, of which the first has the pictures."""
    methods = methods_of(standings.table)
    trained = [one for one in methods if one.row.trained]
    others = [one for one in methods if not one.row.trained]
    shown = [*trained, *others]  # the best method is at the top
    parts, labels = split(shown), _short_labels([one.row.label for one in methods])
    for number, part in enumerate(parts, 1):
        table = _clipped_table(standings, part, labels)
        yield fragment(
            "board_table.html",
            page,
            standings=standings,
            title=title or clipped(standings.title, 60),
            number=number,
            n_numbers=len(parts),
            heading=_ranked_first(table, standings.metric, _heading(table)),
            bodies=_bodies(table, standings, part),
            notes=[Markup(one) for one in cells.notes(table, STYLE)],
            figures=_figures(standings, methods) if number == 1 else [],
            latex=render([table], "latex"),
            shared=shared_facts(standings.first) if number == 1 else None,
            max_seeds=MAX_SEEDS,
        )


def _heading(table: Table) -> list[tuple[Markup, bool]]:
    """Return the names of the columns besides method and seeds, and whether they hold numbers."""
    names, n_left = cells.heading(table, STYLE), cells.n_left(table)
    return [*((Markup(one), False) for one in names[1:n_left]), *((Markup(one), True) for one in names[n_left + 1 :])]


def _ranked_first(table: Table, metric: str | None, items: Sequence[T]) -> list[T]:
    """Return columns with the metric of the ranking first, so that a telephone shows it."""
    if metric is None:
        return list(items)
    place = cells.n_left(table) - 1 + table.columns.index(metric)
    return [items[place], *items[:place], *items[place + 1 :]]


def _short_labels(labels: Sequence[str]) -> dict[str, str]:
    """Return labels of limited length; those that would be equal are numbered, because bold numbers are found by label."""
    found: dict[str, str] = {}
    numbers, taken = Counter[str](), set[str]()
    for label in labels:
        short = clipped(label, MAX_LABEL)
        while short in taken:
            begun = clipped(label, MAX_LABEL - 10)
            numbers[begun] += 1
            short = f"{begun} #{numbers[begun] + 1}"
        taken.add(short)
        found[label] = short
    return found


def _clipped_table(standings: Standings, methods: Sequence[Method], labels: Mapping[str, str]) -> Table:
    """Return a table of some of the methods, in the order of the table, with texts of limited length."""
    rows = [
        replace(one.row, label=labels[one.row.label], notes=tuple(map(clipped, one.row.notes)))
        for one in sorted(methods, key=lambda one: one.index)
    ]
    bold = {metric: frozenset(map(labels.__getitem__, best)) for metric, best in standings.table.bold.items()}
    return replace(
        standings.table,
        rows=tuple(rows),
        bold=bold,
        caption=clipped(standings.table.caption, 2000),
        details=tuple(clipped(one, 600) for one in standings.table.details),
        notes=tuple(clipped(one, 600) for one in standings.table.notes),
    )


def _bodies(table: Table, standings: Standings, methods: Sequence[Method]) -> list[list[BoardRow]]:
    """Return the rows in groups with a rule between them: trained methods and baselines."""
    ordered = sorted(methods, key=lambda one: one.index)
    found = {}
    for method, row in zip(ordered, html_rows(table, ordered), strict=True):
        left = cells.n_left(table)
        listed = _ranked_first(table, standings.metric, [*row.cells[1:left], *row.cells[left + 1 :]])
        found[method.index] = BoardRow(method, standings.methods[method.index], row.cells[0], listed)
    groups = [[found[one.index] for one in methods if one.row.trained is trained] for trained in (True, False)]
    return [group for group in groups if group]


def _figures(standings: Standings, methods: Sequence[Method]) -> list[Figure]:
    metric = standings.metric
    if metric is None:
        return []
    drawn = [*[one for one in methods if one.row.trained][:MAX_DRAWN], *[one for one in methods if not one.row.trained][:5]]
    table = replace(standings.table, columns=(metric,))
    figures = [rank_figure(standings.ranking, drawn, metric)] if standings.ranking.intervals else []
    intervals = interval_figure(table, drawn)
    if table.bold:
        lines = intervals.caption.partition(". ")[0]
        meaning = "Filled markers and bold numbers: the methods whose rank begins at 1; others are hollow."
        intervals = replace(intervals, caption=f"{lines}. {meaning}")
    return [*figures, replace(intervals, layout="half"), cost_figure(standings.table, drawn, metric)]


def _apart_parts(board: Board, page: str) -> Iterator[Markup]:
    """Yield the entries that are in no table."""
    listed = [(entry, clipped(reason)) for entry, reason in board.apart]
    for number, part in enumerate(split(listed), 1):
        yield fragment("board_apart.html", page, entries=part, number=number, heading=True)
