"""Everything on the site for machines: `index.json` and `entries.csv`; and when an entry was published.

There is no parquet file: none of the libraries that dmlbench needs writes it, and pandas, DuckDB and R read CSV directly.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from csv import reader, writer
from datetime import UTC, date, datetime, time
from typing import Any

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import spreadsheet_cell
from dmlbench.site.catalogue import Board, Catalogue
from dmlbench.site.entries import SiteEntry
from dmlbench.site.standings import Standing, Standings
from dmlbench.system.terminal import escaped_for_json
from dmlbench.tables.formats import render

GENERATOR = "dmlbench site"
_NAMES = ("dataset", "dataset_label", "protocol", "protocol_version", "trunk", "loss", "loss_label", "seed", "status")


def published_at(entry: SiteEntry) -> datetime:
    """Return when an entry was published, at the time of day when its run finished if that was the same day.

    Args:
        entry: Entry.
    """
    published = datetime.combine(date.fromisoformat(entry.entry.claim.published), time(), UTC)
    try:
        finished = datetime.fromisoformat(str(entry.row.get("finished_at")))
        finished = finished.astimezone(UTC) if finished.tzinfo else finished.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return published
    return finished if finished.date() == published.date() else published


def entries_csv(entries: Iterable[SiteEntry]) -> str:
    """Return all columns of entries, one line each. Texts that a spreadsheet would read as formulas begin with an apostrophe.

    `tier`, `verified_tier`, `page` and the columns `claim_*` are those of the site, also if a row has a column of this name.

    Args:
        entries: Entries.
    """
    lines = [_columns(entry) for entry in entries]
    known: dict[tuple[str, ...], None] = dict.fromkeys(map(tuple, lines))  # thousands of lines have the same few sets of names
    names: list[Scalar] = [*dict.fromkeys(name for one in known for name in one)]
    text = io.StringIO()
    out = writer(text, lineterminator="\n")
    for values in (names, *([line.get(str(name), "") for name in names] for line in lines)):
        out.writerow([spreadsheet_cell(value) if type(value) is str else value for value in values])
    return text.getvalue()


def _columns(entry: SiteEntry) -> dict[str, Scalar]:
    claim: dict[str, Scalar] = {f"claim_{name}": value for name, value in entry.claim.items()}
    own: dict[str, Scalar] = {"tier": entry.badge, "verified_tier": entry.verdict.label, "page": entry.page}
    row = {name: value for name, value in entry.row.columns.items() if name not in own and not name.startswith("claim_")}
    return {**own, **row, **claim}


def tables_csv(tables: Sequence[Standings]) -> str:
    """Return tables as `dmlbench table --format csv` does, with the columns `rank_best`, `rank_worst`, `not_ranked` and `tier`.

    Args:
        tables: Tables of a page.
    """
    lines = list(reader(io.StringIO(render([one.table for one in tables], "csv"))))
    methods = [method for one in tables for method in one.methods]
    own = [("rank_best", "rank_worst", "not_ranked", "tier"), *map(_standing, methods)]
    kept = [i for i, name in enumerate(lines[0]) if name not in own[0]]
    text = io.StringIO()
    out = writer(text, lineterminator="\n")
    for first, line in zip(own, lines, strict=True):
        out.writerow([*first, *(line[i] for i in kept)])
    return text.getvalue()


def _standing(one: Standing) -> tuple[Scalar, ...]:
    best, worst = one.rank or ("", "")
    return best, worst, one.not_ranked, str(one.tier)


def index_json(catalogue: Catalogue) -> str:
    """Return all tables with their ranks, and all entries with their metrics, as JSON.

    Args:
        catalogue: Everything on the site.
    """
    value = {
        "generator": GENERATOR,
        "boards": [_board(board) for board in catalogue.boards],
        "entries": [_entry(entry) for entry in catalogue.entries],
        "skipped": [one._asdict() for one in catalogue.skipped],
    }
    return escaped_for_json(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) + "\n"


def _board(board: Board) -> dict[str, Any]:
    return {
        **board.key._asdict(),
        "label": board.label,
        "page": board.key.page,
        "csv": board.key.csv,
        "is_current_version": board.is_current,
        "tables": [_table(table) for table in board.standings],
        "apart": [{"page": entry.page, "reason": reason} for entry, reason in board.apart],
    }


def _table(table: Standings) -> dict[str, Any]:
    return {
        "trunk": table.first["trunk"],
        "frozen": table.frozen,
        "fingerprint": table.first["fingerprint"],
        "metric": table.metric,
        "seeds": table.ranking.seeds,
        "methods": [_method(one) for one in table.methods],
    }


def _method(one: Standing) -> dict[str, Any]:
    return {
        "label": one.row.label,
        "loss": one.row.loss,
        "method_digest": one.row.method_digest,
        "rank": one.rank,
        "not_ranked": one.not_ranked or None,
        "tier": one.tier,
        "seeds": one.row.seeds,
        "scores": {name: cell and [cell.mean, cell.half_width] for name, cell in one.row.cells.items()},
        "costs": dict(one.row.costs),
        "pages": [entry.page for entry in one.entries],
    }


def _entry(entry: SiteEntry) -> dict[str, Any]:
    row = entry.row
    values: Mapping[str, Scalar] = {name: row.get(name) for name in _NAMES}
    metrics = {name: value for name in row.metrics if (value := row.number(name)) is not None}
    return {
        "run_id": row["run_id"],
        "tier": entry.badge,
        "verified_tier": entry.verdict.label,
        "page": entry.page,
        "path": entry.path,
        **values,
        "finished_at": row.get("finished_at"),
        "claim": entry.claim,
        "metrics": metrics,
    }
