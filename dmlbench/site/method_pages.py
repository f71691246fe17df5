"""The pages of methods: all results of a method, its file, and whether the entries were made with that file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from dmlbench.config.files import conf_dir
from dmlbench.config.files import entries as config_entries
from dmlbench.results.formatting import metric_label
from dmlbench.results.row import Row
from dmlbench.site.board_pages import Links
from dmlbench.site.catalogue import Board, Catalogue
from dmlbench.site.entries import SiteEntry
from dmlbench.site.paths import method_page
from dmlbench.site.render import Writer, clipped, fragment, split
from dmlbench.site.standings import Standing, Standings
from dmlbench.system.regular_files import parse_json
from dmlbench.tables.formats.cells import percent

MAX_SEEDS = 30


@dataclass(frozen=True)
class MethodTable:
    """The results of a method in one table.

    Args:
        board: Page that compares them.
        table: The table.
        link: Path of the table.
        metric: Metric of the ranking in print.
        rows: How the method stands with each of its hyper-parameters, and its score in print.
    """

    board: Board
    table: Standings
    link: str
    metric: str
    rows: Sequence[tuple[Standing, str]]


@dataclass(frozen=True)
class LossFile:
    """The configuration file of a method.

    Args:
        text: Its content.
        summary: First paragraph of its comment.
        others: Number of entries of the method that were made with another version of it.
    """

    text: str
    summary: str
    others: int


def write_methods(writer: Writer, catalogue: Catalogue, links: Links) -> None:
    """Write the page of every method, and the list of methods.

    Args:
        writer: Writes files.
        catalogue: Everything on the site.
        links: Path of each table.
    """
    tables: dict[str, list[MethodTable]] = {}
    apart: dict[str, list[tuple[SiteEntry, str]]] = {}
    labels: dict[str, str] = {}
    for board in catalogue.boards:
        for entry in board.entries:
            labels.setdefault(str(entry.row["loss"]), entry.label)
        for entry, reason in board.apart:
            apart.setdefault(str(entry.row["loss"]), []).append((entry, clipped(reason)))
        for table in board.standings:
            for loss in dict.fromkeys(one.row.loss for one in table.methods):
                tables.setdefault(loss, []).append(_method_table(board, table, loss, links[table]))
    for loss, label in labels.items():
        own, listed = tables.get(loss, []), apart.get(loss, [])
        entries = [entry for one in own for row, _ in one.rows for entry in row.entries] + [entry for entry, _ in listed]
        page = method_page(loss)
        numbered = enumerate((replace(one, rows=rows) for one in own for rows in split(one.rows)), 1)
        parts = [fragment("method_rows.html", page, one=one, number=i, max_seeds=MAX_SEEDS) for i, one in numbered]
        parts += [
            fragment("board_apart.html", page, entries=part, number=i, heading=True) for i, part in enumerate(split(listed), 1)
        ]
        writer.pages(page, "method.html", parts, loss=loss, label=label, entries=len(entries), file=_loss_file(loss, entries))
    items = [
        (label, method_page(loss), loss, sum(len(one.rows) for one in tables.get(loss, ()))) for loss, label in labels.items()
    ]
    items.sort(key=lambda one: (one[0].lower(), one[2]))
    writer.pages("methods.html", "methods.html", [fragment("methods_rows.html", "", items=part) for part in split(items)])


def _method_table(board: Board, table: Standings, loss: str, link: str) -> MethodTable:
    rows = [
        (one, percent(one.row.cells.get(table.metric) if table.metric else None))
        for one in table.methods
        if one.row.loss == loss
    ]
    return MethodTable(board, table, link, metric_label(table.metric) if table.metric else "Score", rows)


def _loss_file(loss: str, entries: Sequence[SiteEntry]) -> LossFile | None:
    """Return the file of a method that dmlbench ships; None for methods of others."""
    file = _shipped().get(loss)
    if file is None:
        return None
    content = file.read_bytes()
    own = hashlib.sha256(content).hexdigest()
    recorded = [_recorded_digest(entry.row, loss) for entry in entries]
    others = sum(one not in (None, own) for one in recorded)
    return LossFile(content.decode(), dict(config_entries("loss")).get(loss, ""), others)


@cache
def _shipped() -> Mapping[str, Path]:
    return {file.stem: file for file in (conf_dir() / "loss").glob("*.yaml")}


def _recorded_digest(row: Row, loss: str) -> str | None:
    """Return the SHA-256 of the file with which a run was made; None if it is not known."""
    try:
        files = parse_json(str(row.get("config_files")).encode())
    except ValueError:
        return None
    found = files.get(f"loss/{loss}") if isinstance(files, dict) else None
    return found if isinstance(found, str) else None
