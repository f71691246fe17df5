"""Everything that a site shows: entries, grouped into pages of data sets and protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from dmlbench.publication.freshness import current_version
from dmlbench.results.row_files import SkippedFile
from dmlbench.site.entries import SiteEntry
from dmlbench.site.paths import BoardKey
from dmlbench.site.standings import Standings, make_standings
from dmlbench.verification import Tier


@dataclass(frozen=True, eq=False)
class Board:
    """The entries of one data set and protocol.

    Args:
        key: What they have in common.
        label: Name of the data set in print.
        standings: Tables of entries that may be compared.
        apart: Entries that are in no table, each with a clause that says why.
        is_current: Whether the version of the protocol is the current one.
        current: The page of the current version; None if this is it, or if it has no entries.
        age: `earlier` or `later` than the current version, or `other`; empty if it is the current one.
    """

    key: BoardKey
    label: str
    standings: Sequence[Standings]
    apart: Sequence[tuple[SiteEntry, str]]
    is_current: bool = True
    current: BoardKey | None = None
    age: str = ""

    @property
    def title(self) -> str:
        """Data set and protocol in print."""
        return f"{self.label}, {self.protocol}"

    @property
    def protocol(self) -> str:
        """Protocol and version in print."""
        version = "" if self.key.version is None else f" version {self.key.version}"
        return f"protocol {self.key.protocol}{version}"

    @property
    def entries(self) -> list[SiteEntry]:
        """All its entries."""
        return [one for table in self.standings for method in table.methods for one in method.entries] + [
            one for one, _ in self.apart
        ]

    @property
    def n_methods(self) -> int:
        """Number of trained methods in its tables."""
        return sum(method.row.trained for table in self.standings for method in table.methods)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """A site.

    Args:
        boards: Pages of data sets and protocols, by name.
        skipped: Files that are not entries.
    """

    boards: Sequence[Board]
    skipped: Sequence[SkippedFile] = ()

    @property
    def entries(self) -> list[SiteEntry]:
        """All entries, by board and table."""
        return [entry for board in self.boards for entry in board.entries]


def make_catalogue(entries: Iterable[SiteEntry], skipped: Sequence[SkippedFile] = ()) -> Catalogue:
    """Group and compare entries.

    Args:
        entries: Entries in any order.
        skipped: Files that are not entries.
    """
    groups: dict[BoardKey, list[SiteEntry]] = {}
    for entry in sorted(entries, key=lambda one: one.path):
        groups.setdefault(entry.key, []).append(entry)
    boards = [_board(key, group) for key, group in groups.items()]
    boards.sort(key=lambda one: (one.key.dataset, one.key.protocol, -(one.key.version or 0)))
    return Catalogue([_with_current_version(one, groups) for one in boards], skipped)


def _with_current_version(board: Board, known: Collection[BoardKey]) -> Board:
    """Return a page that knows whether its version of the protocol is current, and which page has the current one."""
    protocol = board.key.protocol
    versions = [one.version for one in known if one.protocol == protocol and one.version is not None]
    current = current_version(protocol) or max(versions, default=None)  # a protocol of others: the newest version
    if board.key.version == current:
        return board
    key, own = board.key._replace(version=current), board.key.version
    age = "other" if own is None or current is None else "earlier" if own < current else "later"
    return replace(board, is_current=False, current=key if key in known else None, age=age)


def _board(key: BoardKey, entries: Sequence[SiteEntry]) -> Board:
    """Compare entries; those that are inconsistent, claimed only, or the same run as another one are set apart."""
    measured: dict[str, SiteEntry] = {}
    apart = []
    for entry in entries:
        first = measured.get(str(entry.row["run_id"]))
        if entry.apart:
            apart.append((entry, entry.apart))
        elif not entry.verdict.consistent:
            apart.append((entry, f"inconsistent: {'; '.join(one.message for one in entry.verdict.findings)}"))
        elif entry.tier is Tier.CLAIMED:
            apart.append((entry, f"claimed: {entry.verdict.why_not_next or 'it has no scores of its queries'}"))
        elif first is not None:
            apart.append((entry, f"it is the same run as {first.path}"))
        else:
            measured[str(entry.row["run_id"])] = entry
    standings = make_standings(list(measured.values()))
    shown = {entry for table in standings for method in table.methods for entry in method.entries}
    apart += [(one, "another entry has the same method and seed") for one in measured.values() if one not in shown]
    labels = Counter(one.dataset for one in entries)
    label = min(labels, key=lambda one: (-labels[one], one))  # that of most entries
    return Board(key, label, standings, apart)
