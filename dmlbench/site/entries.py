"""The entries of a site, as they were read."""

from __future__ import annotations

from dataclasses import dataclass

from dmlbench.publication.entries import Entry
from dmlbench.results.row import Row
from dmlbench.site.paths import BoardKey, board_key
from dmlbench.verification import Tier, Verdict


@dataclass(frozen=True, eq=False)
class SiteEntry:
    """A published run.

    Args:
        entry: The entry.
        claim: What its publisher states: name to text, in printed order.
        path: Its directory, from the directory of all entries.
        page: Path of its page.
        apart: Why it is shown apart from others, a clause; empty if it is not.
    """

    entry: Entry
    claim: dict[str, str]
    path: str
    page: str
    apart: str = ""

    @property
    def row(self) -> Row:
        """Its row; the directory of the row is that of the entry."""
        return self.entry.row

    @property
    def verdict(self) -> Verdict:
        """What was verified."""
        return self.entry.verdict

    @property
    def tier(self) -> Tier:
        """Tier that it reached: up to `consistent` as verified now, above it as its publisher states."""
        return self.entry.tier

    @property
    def badge(self) -> str:
        """The tier in print, or `inconsistent`."""
        return str(self.tier) if self.verdict.consistent else "inconsistent"

    @property
    def key(self) -> BoardKey:
        """The page on which it is compared with others."""
        return board_key(self.row)

    @property
    def label(self) -> str:
        """Name of its method in print."""
        return str(self.row.get("loss_label") or self.row["loss"])

    @property
    def dataset(self) -> str:
        """Name of its data set in print."""
        return str(self.row.get("dataset_label") or self.row["dataset"])
