"""Tables of measured entries with the ranks that their tests support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dmlbench.report.figure import main_metric
from dmlbench.results.formatting import format_seeds, metric_label
from dmlbench.results.row import Row
from dmlbench.site.class_bars import BarTable, class_bars
from dmlbench.site.entries import SiteEntry
from dmlbench.site.paths import method_page
from dmlbench.tables.axis import find_axis
from dmlbench.tables.bold import NOT_TESTED, ONE_SEED
from dmlbench.tables.caption import caption
from dmlbench.tables.rank_intervals import Ranking, RankInterval, rank_methods
from dmlbench.tables.significance_notes import LEVEL_IN_PRINT, model_statement, power_remark
from dmlbench.tables.table import Table, compare
from dmlbench.tables.table_differences import with_differences
from dmlbench.tables.table_row import TableRow
from dmlbench.verification import Tier

MAX_NAMED = 6  # methods in a sentence


@dataclass(frozen=True, eq=False)
class Standing:
    """A method in a table.

    Args:
        row: Its row of the table.
        rank: Ranks that it may have; None if it is not ranked.
        not_ranked: Why it is not ranked, a clause; empty if it is.
        tier: Lowest tier of its entries.
        entries: Its entries, one per seed.
        bars: Scores of the classes of each entry.
    """

    row: TableRow
    rank: RankInterval | None
    not_ranked: str
    tier: Tier
    entries: Sequence[SiteEntry]
    bars: Mapping[SiteEntry, Sequence[BarTable]]

    @property
    def method_page(self) -> str:
        """Path of the page of its method."""
        return method_page(self.row.loss)


@dataclass(frozen=True, eq=False)
class Standings:
    """A table of entries that may be compared.

    Args:
        table: The table: baselines, then trained methods by descending score. Bold numbers follow from the ranking.
        metric: Metric of the ranking; None if the table has none.
        ranking: Ranks of its trained methods.
        methods: Its methods, in the order of the table.
        distinction: Columns that distinguish the table from others of the page, a sentence; empty if there are none.
        anchor: Identifier of the table on its page.
    """

    table: Table
    metric: str | None
    ranking: Ranking
    methods: Sequence[Standing]
    distinction: str
    anchor: str

    @property
    def brief(self) -> str:
        """The columns that distinguish the table, without words around them, and without a digest if others distinguish it."""
        listed = self.distinction.removeprefix("In this table: ").removesuffix(".").split(", ")
        return ", ".join([one for one in listed if not one.startswith("split_digest")] or listed)

    @property
    def title(self) -> str:
        """Trunk in print, and whether it is frozen."""
        return f"{self.trunk}{', frozen' if self.frozen else ''}"

    @property
    def first(self) -> Row:
        """The first row, for columns that all rows share."""
        return self.table.rows[0].rows[0]

    @property
    def frozen(self) -> bool:
        """Whether the trunk is frozen."""
        return bool(self.first.get("protocol_trunk_frozen"))

    @property
    def trunk(self) -> str:
        """Name of the trunk in print."""
        return str(self.first.get("trunk_label") or self.first["trunk"])


def make_standings(entries: Sequence[SiteEntry]) -> list[Standings]:
    """Compare entries of one data set and protocol.

    Args:
        entries: Entries whose rows are consistent, each run once.
    """
    if not entries:
        return []
    by_run = {str(one.row["run_id"]): one for one in entries}
    tables = compare([one.row for one in entries], tested=False, published="none")
    found: list[Standings] = []
    for plain, table in zip(tables, with_differences(tables), strict=True):
        distinction = f"{table.details[0]}." if len(table.details) > len(plain.details) else ""
        anchor = f"table-{len(found) + 1}"
        found.append(_standings(plain, distinction, anchor, by_run))
    return found


def _standings(table: Table, distinction: str, anchor: str, by_run: Mapping[str, SiteEntry]) -> Standings:
    metric = main_metric(table)
    ranked = {row.label: row.rows for row in table.rows if _has_score(row, metric)}
    if metric is None or not table.comparable:
        reason = "nothing is known about the training of external embeddings"
        ranking = Ranking(not_ranked=dict.fromkeys(ranked, "it has no metric" if table.comparable else reason))
    else:
        ranking = rank_methods(ranked, metric)
    table = _with_ranking(_sorted(table, metric), metric, ranking)
    return Standings(table, metric, ranking, [_standing(row, ranking, by_run) for row in table.rows], distinction, anchor)


def _has_score(row: TableRow, metric: str | None) -> bool:
    return row.trained and row.n == len(row.rows) and metric is not None and row.cells.get(metric) is not None


def _sorted(table: Table, metric: str | None) -> Table:
    """Return a table with the methods by descending score, below the baselines."""

    def key(row: TableRow) -> tuple[bool, bool, float]:
        cell = row.cells.get(metric) if metric is not None else None
        return row.trained, cell is None, 0.0 if cell is None else -cell.mean

    return replace(table, rows=tuple(sorted(table.rows, key=key)))


def _with_ranking(table: Table, metric: str | None, ranking: Ranking) -> Table:
    """Return a table with the methods in bold that the ranking found, and a caption that says so."""
    rows = [row for one in table.rows for row in one.rows]
    n_ranked = len(ranking.intervals)
    n_trained = n_ranked + len(ranking.not_ranked)
    meaning, details = "", list(table.details)
    if metric is not None and ranking.intervals:
        label = metric_label(metric)
        meaning = f"bold marks, in {label}, the methods whose rank begins at 1, because no method is significantly better"
        tested = [row for one in table.rows if one.label in ranking.intervals for row in one.rows]
        seeds = format_seeds(ranking.seeds)
        details.append(
            f"Significance ({LEVEL_IN_PRINT}, {seeds}): {model_statement(tested)}{power_remark(len(ranking.seeds), tested)}"
        )
        of_some = f" among the {n_ranked} highest of {ranking.n_methods} means" * (n_ranked < ranking.n_methods)
        details.append(f"Rank: the ranks that a method may have by {label}{of_some}; all together hold with 95 % confidence")
    elif n_trained > 1 and table.comparable:
        meaning = ONE_SEED if all(row.n == 1 for row in table.rows if row.trained) else NOT_TESTED
    details += _not_ranked(ranking)
    return replace(
        table,
        bold={metric: ranking.best} if metric is not None and ranking.best else {},
        caption=caption(rows, find_axis("loss", rows), {row.n for row in table.rows if any(row.cells.values())}, meaning),
        details=tuple(details),
    )


def _not_ranked(ranking: Ranking) -> list[str]:
    """Return the methods that are not ranked, a sentence per reason."""
    names: dict[str, list[str]] = {}
    for name, reason in ranking.not_ranked.items():
        names.setdefault(reason, []).append(name)
    sentences = []
    for reason, found in names.items():
        more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
        sentences.append(f"Not ranked: {', '.join(found[:MAX_NAMED])}{more} ({reason})")
    return sentences


def _standing(row: TableRow, ranking: Ranking, by_run: Mapping[str, SiteEntry]) -> Standing:
    entries = [by_run[str(one["run_id"])] for one in row.rows]
    reason = "it is a baseline"
    if row.trained:
        reason = ranking.not_ranked.get(row.label, "a run failed, or a score is missing")
    rank = ranking.intervals.get(row.label)
    tier = min((one.tier for one in entries), key=lambda tier: tier.rank)
    bars = {one: class_bars(one) for one in entries}  # now, because the ranking has just read their scores
    return Standing(row, rank, "" if rank else reason, tier, entries, bars)
