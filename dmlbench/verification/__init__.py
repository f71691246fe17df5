"""Check how far a result can be believed: recompute what a row says from the files beside it.

Imports neither torch nor Hydra. Tiers above `consistent` need torch; they are in `dmlbench.runs`.
"""

from __future__ import annotations

from dmlbench.verification.row_checks import row_findings, verify_row, verify_run
from dmlbench.verification.scores import FileScores, ScoreSource, scores_beside
from dmlbench.verification.verdict import Finding, Tier, Verdict

__all__ = [
    "FileScores",
    "Finding",
    "ScoreSource",
    "Tier",
    "Verdict",
    "row_findings",
    "scores_beside",
    "verify_row",
    "verify_run",
]
