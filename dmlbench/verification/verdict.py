"""How far a result was verified, and what contradicts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dmlbench.results.row import Row


class Tier(StrEnum):
    """How far a result was verified, in ascending order."""

    CLAIMED = "claimed"  # a number without scores of its queries, such as one of a paper
    CONSISTENT = "consistent"  # identity and metrics were recomputed from the row and the scores of its queries
    RESCORED = "rescored"  # metrics were recomputed from the embeddings
    REEMBEDDED = "re-embedded"  # embeddings were recomputed from the model and the images
    RETRAINED = "retrained"  # another machine trained the run again

    @property
    def rank(self) -> int:
        """Position among the tiers, 0 for `claimed`."""
        return list(Tier).index(self)


class Finding(NamedTuple):
    """A contradiction in a row or its files: the name of a check, such as `fingerprint`, and a sentence without a full stop."""

    check: str
    message: str


@dataclass(frozen=True)
class Verdict:
    """Result of verifying one row.

    Args:
        row: The row.
        tier: Highest tier that it reached; `claimed` if it is inconsistent.
        findings: Contradictions. A row with findings is inconsistent.
        why_not_next: Why it did not reach the next tier, a clause; empty for the highest tier.
        scores: Digest of the scores of its queries; empty if it is inconsistent or has none.
    """

    row: Row
    tier: Tier
    findings: Sequence[Finding] = ()
    why_not_next: str = ""
    scores: str = ""

    @property
    def consistent(self) -> bool:
        """Whether nothing contradicts the row. A row without scores of its queries may be, at the tier `claimed`."""
        return not self.findings

    @property
    def label(self) -> str:
        """The tier in print, or `inconsistent`."""
        return str(self.tier) if self.consistent else "inconsistent"
