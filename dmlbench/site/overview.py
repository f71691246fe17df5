"""The first page, the explanations, the glossary of columns, and what was not accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dmlbench.results.column_specs import COLUMNS
from dmlbench.results.formatting import metric_label
from dmlbench.results.metric_specs import METRIC_SPECS
from dmlbench.site.catalogue import Board, Catalogue
from dmlbench.site.entries import SiteEntry
from dmlbench.site.feed import newest
from dmlbench.site.render import Writer, clipped, fragment, split
from dmlbench.site.standings import Standings
from dmlbench.tables.formats.cells import percent
from dmlbench.tables.rank_intervals import MAX_RANKED
from dmlbench.verification import Tier

MAX_NEWEST = 10
MAX_BEST = 3  # names of best methods of a table
MAX_LINES = 4  # tables of a board
TIERS = {
    Tier.CLAIMED: "A number without scores of single queries, such as one of a paper. It is never ranked.",
    Tier.CONSISTENT: "This site recomputed the retrieval metrics from the scores of the queries, and the identity of the run "
    "from its settings. Clustering metrics, times, memory and versions are as the publisher states.",
    Tier.RESCORED: "The publisher states that all metrics were recomputed from the embeddings.",
    Tier.REEMBEDDED: "The publisher states that the embeddings were recomputed from the model and the images.",
    Tier.RETRAINED: "The publisher states that another machine trained the run again, and that its result agrees.",
}


@dataclass(frozen=True)
class Leaders:
    """The best methods of a table.

    Args:
        trunk: Trunk in print.
        distinction: Columns that distinguish the table from others of the same page.
        metric: Metric of the ranking in print.
        names: Names of the first methods.
        more: Number of further methods.
        score: Score of the first one in print.
        tested: Whether a significance test found them.
        link: Path of the table.
    """

    trunk: str
    distinction: str
    metric: str
    names: Sequence[str]
    more: int
    score: str
    tested: bool
    link: str


def write_overview(writer: Writer, catalogue: Catalogue, links: Mapping[Standings, str], published: Mapping[str, str]) -> None:
    """Write the pages that belong to no data set, method or entry.

    Args:
        writer: Writes files.
        catalogue: Everything on the site.
        links: Path of each table.
        published: Data set to the path of the page with its published numbers.
    """
    current = [(board, _leaders(board, links)) for board in catalogue.boards if board.is_current]
    others = [(board, _leaders(board, links)) for board in catalogue.boards if not board.is_current]
    parts = [fragment("overview_rows.html", "", boards=part, current=True) for part in split(current)]
    parts += [fragment("overview_rows.html", "", boards=part, current=False) for part in split(others)]
    n_methods = len({str(entry.row["loss"]) for entry in catalogue.entries})
    writer.pages(
        "index.html",
        "overview.html",
        parts,
        n_entries=len(catalogue.entries),
        n_methods=n_methods,
        n_datasets=len({board.key.dataset for board in catalogue.boards}),
        newest=newest(catalogue, MAX_NEWEST),
        n_problems=len(_inconsistent(catalogue)) + len(catalogue.skipped),
        published=published,
    )
    writer.page("about.html", "about.html", tiers=TIERS, max_ranked=MAX_RANKED)
    writer.page("columns.html", "columns.html", columns=COLUMNS, metrics=METRIC_SPECS)
    _write_problems(writer, catalogue)


def _leaders(board: Board, links: Mapping[Standings, str]) -> tuple[Sequence[Leaders], int]:
    """Return the best methods of the tables of a board with most methods, and the number of its other tables."""
    by_size = sorted(board.standings, key=lambda one: -len(one.methods))
    shown = [_best(one, links[one]) for one in by_size[:MAX_LINES]]
    return shown, len(by_size) - len(shown)


def _best(table: Standings, link: str) -> Leaders:
    trunk = clipped(table.title, 60)
    metric = metric_label(table.metric) if table.metric else ""
    scored = [one.row for one in table.methods if one.row.trained and table.metric and one.row.cells.get(table.metric)]
    best = [one.label for one in scored if one.label in table.ranking.best] or [one.label for one in scored[:1]]
    score = percent(scored[0].cells[table.metric]) if scored and table.metric else ""
    names = [clipped(one, 60) for one in best[:MAX_BEST]]
    distinction = clipped(table.brief, 120)
    return Leaders(trunk, distinction, metric, names, len(best) - len(names), score, bool(table.ranking.best), link)


def _write_problems(writer: Writer, catalogue: Catalogue) -> None:
    """Write the list of entries that are inconsistent, and of files that are not entries."""
    inconsistent = [(one, clipped("; ".join(f.message for f in one.verdict.findings))) for one in _inconsistent(catalogue)]
    parts = [
        fragment("board_apart.html", "", entries=part, number=i, heading=False) for i, part in enumerate(split(inconsistent), 1)
    ]
    skipped = [(clipped(one.path), clipped(one.reason)) for one in catalogue.skipped]
    parts += [fragment("skipped.html", "", files=part, first=i == 0) for i, part in enumerate(split(skipped))]
    writer.pages("problems.html", "problems.html", parts, n_inconsistent=len(inconsistent))


def _inconsistent(catalogue: Catalogue) -> list[SiteEntry]:
    return [one for one in catalogue.entries if not one.verdict.consistent]
