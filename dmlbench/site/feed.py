"""The newest results as an Atom feed (RFC 4287). An item is a method on a data set; another seed makes a new item."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

from dmlbench.results.formatting import format_seeds, metric_label
from dmlbench.site.catalogue import Board, Catalogue
from dmlbench.site.export import published_at
from dmlbench.site.render import clipped, environment
from dmlbench.site.standings import Standing, Standings
from dmlbench.system.terminal import printable_lines
from dmlbench.tables.formats.cells import percent
from dmlbench.verification import Tier

PAGE = "feed.xml"
MAX_ITEMS = 50
_NOT_IN_XML = re.compile("[\ufffe\uffff]")  # besides control characters, which are replaced in all pages


@dataclass(frozen=True)
class Item:
    """A method on a data set.

    Args:
        title: Method, data set and protocol.
        text: Score, seeds, rank and tier, sentences.
        page: Path of the page of its newest entry.
        board: Path of the page that compares it with others.
        updated: When its newest entry was published.
        id: Identifier, which follows from its runs.
    """

    title: str
    text: str
    page: str
    board: str
    updated: datetime
    id: str


def newest(catalogue: Catalogue, count: int = MAX_ITEMS) -> list[Item]:
    """Return the newest results, the newest first.

    Args:
        catalogue: Everything on the site.
        count: Maximum number of results.
    """
    found = [_item(board, table, method) for board in catalogue.boards for table in board.standings for method in table.methods]
    return sorted(found, key=lambda one: (one.updated, one.title, one.id), reverse=True)[:count]


def feed(catalogue: Catalogue, title: str, url: str) -> str:
    """Return the feed.

    Args:
        catalogue: Everything on the site.
        title: Title of the site.
        url: Address of the site with a slash at its end; empty for relative links.
    """
    items = newest(catalogue)
    own = uuid.uuid5(uuid.NAMESPACE_URL, f"dmlbench site {url or title}").urn
    text = environment().get_template("feed.xml").render(items=items, title=title, url=url, page=PAGE, id=own)
    return _NOT_IN_XML.sub("?", printable_lines(text))


def _item(board: Board, table: Standings, method: Standing) -> Item:
    last = max(method.entries, key=lambda one: (published_at(one), one.path))
    runs = " ".join(sorted(one.path for one in method.entries))
    return Item(
        title=clipped(f"{method.row.label}: {board.title}, {table.trunk}"),
        text=_sentences(table, method),
        page=last.page,
        board=board.key.page,
        updated=published_at(last),
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"dmlbench entries {runs}").urn,
    )


def _sentences(table: Standings, method: Standing) -> str:
    tier = f"{method.tier}{' (stated by the publisher)' if method.tier.rank > Tier.CONSISTENT.rank else ''}"
    cell = method.row.cells.get(table.metric) if table.metric is not None else None
    if table.metric is None or cell is None:
        return f"No score. Tier: {tier}."
    seeds = f" ({format_seeds(method.row.seeds)})" if method.row.seeds else ""
    rank = f" Rank {method.rank} of {len(table.ranking.intervals)}." if method.rank else ""
    return f"{metric_label(table.metric)} {percent(cell)} %{seeds}.{rank} Tier: {tier}."
