"""The page of an entry: scores, classes, the command that makes it again, claim and provenance; and its columns as CSV."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html import escape

from markupsafe import Markup

from dmlbench.report.commands import Commands, commands_of
from dmlbench.results.formatting import format_percent, metric_label
from dmlbench.results.metric_specs import MACRO, parse_metric
from dmlbench.results.row import Row
from dmlbench.site.board_pages import Links
from dmlbench.site.catalogue import Board, Catalogue
from dmlbench.site.class_bars import class_bars
from dmlbench.site.entries import SiteEntry
from dmlbench.site.export import entries_csv
from dmlbench.site.facts import facts
from dmlbench.site.paths import method_page
from dmlbench.site.render import Writer, clipped
from dmlbench.site.standings import Standing, Standings
from dmlbench.tables.formats import cells
from dmlbench.tables.formats.latex import STYLE as LATEX
from dmlbench.tables.formats.latex_escape import escape as escape_latex
from dmlbench.verification import Tier

MAX_SCORES = 100
_LINK = re.compile(r"https?://[^\s<>\"'\\]{1,500}")


@dataclass(frozen=True)
class Place:
    """What the entries of a method have in common.

    Args:
        board: The page that compares them.
        table: Their table; None for an entry that is in no table.
        standing: Their method in the table.
        link: Path of the table.
        latex: Line of the method in a LaTeX table.
        csv: File with all their columns, in the same directory.
    """

    board: Board
    table: Standings | None
    standing: Standing | None
    link: str
    latex: str
    csv: str


def write_entries(writer: Writer, catalogue: Catalogue, links: Links) -> None:
    """Write the page of every entry, and the CSV file of the entries of every method.

    Args:
        writer: Writes files.
        catalogue: Everything on the site.
        links: Path of each table.
    """
    for board in catalogue.boards:
        for table in board.standings:
            latex = _latex_lines(table, f"{board.title}, {table.trunk}")
            for method, line in zip(table.methods, latex, strict=True):
                csv = f"{method.entries[0].page.removesuffix('.html')}.csv"
                writer.file(csv, entries_csv(method.entries))
                place = Place(board, table, method, links[table], line, csv.rpartition("/")[2])
                for entry in method.entries:
                    _write_entry(writer, entry, place, "")
        for entry, reason in board.apart:
            csv = f"{entry.page.removesuffix('.html')}.csv"
            writer.file(csv, entries_csv([entry]))
            _write_entry(writer, entry, Place(board, None, None, board.key.page, "", csv.rpartition("/")[2]), reason)


def _write_entry(writer: Writer, entry: SiteEntry, place: Place, reason: str) -> None:
    row, table, standing = entry.row, place.table, place.standing
    scores, macro = _scores(row, entry.verdict.tier is Tier.CONSISTENT)
    writer.page(
        entry.page,
        "entry.html",
        entry=entry,
        row=row,
        place=place,
        board=place.board,
        table=table,
        standing=standing,
        rank_metric=metric_label(table.metric) if table and table.metric else "",
        reason=reason,
        scores=scores,
        macro=macro,
        bars=standing.bars[entry] if standing else class_bars(entry) if entry.verdict.consistent else [],
        commands=_commands(row, table),
        claim={name: (text, bool(_LINK.fullmatch(text))) for name, text in entry.claim.items()},
        method_page=method_page(str(row["loss"])),
        groups=facts(row, shared=table is None),
    )


def _scores(row: Row, is_consistent: bool) -> tuple[Markup, bool]:
    """Return all metrics as rows of a table, and whether means over classes are beside the means over queries.

    Metrics that the site did not recompute have a star.
    """
    values = {name: format_percent(value, 2) for name in row.metrics if (value := row.number(name)) is not None}
    of_classes = {name.removeprefix(MACRO): value for name, value in values.items() if name.startswith(MACRO)}
    recomputed = ("retrieval",) if is_consistent else ()
    alone = [name for name in values if not (name.startswith(MACRO) and name.removeprefix(MACRO) in values)][:MAX_SCORES]
    has_classes = any(name in of_classes for name in alone)
    lines = []
    for name in alone:  # without a template, which would take most of the time of a page
        more = f'<td class="number">{of_classes.get(name, "")}</td>' if has_classes else ""
        found = parse_metric(name)
        stated = found is None or found.spec.kind not in recomputed
        heading = f'<th scope="row" title="{escape(name)}">{escape(metric_label(name))}{" *" * stated}</th>'
        lines.append(f'<tr>{heading}<td class="number">{values[name]}</td>{more}</tr>')
    return Markup("\n".join(lines)), has_classes


def _commands(row: Row, table: Standings | None) -> Commands:
    """Return the command that makes the run again."""
    if table is None:
        return Commands([], [])
    alone = replace(table.table.rows[0], label="This entry", loss=str(row["loss"]), rows=(row,))
    return commands_of(replace(table.table, rows=(alone,)), elsewhere=True)


def _latex_lines(standings: Standings, title: str) -> list[str]:
    """Return the line of each method in a LaTeX table, below comments with its tier and the columns."""
    table = replace(standings.table, costs=(), rows=tuple(replace(one, notes=()) for one in standings.table.rows))
    heading = " & ".join(cells.heading(table, LATEX))
    found = []
    for one, line in zip(standings.methods, cells.rows(table, LATEX), strict=True):
        stated = " (stated)" if one.tier.rank > Tier.CONSISTENT.rank else ""
        comment = f"% {clipped(escape_latex(title))}, tier {one.tier}{stated}\n% {heading}"
        found.append(f"{comment}\n{' & '.join(clipped(cell) for cell in line)} \\\\")
    return found
