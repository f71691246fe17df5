"""Verify a row up to the tier `consistent`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.run_files import PER_QUERY_DIGEST
from dmlbench.system.regular_files import sha256
from dmlbench.verification.class_checks import class_findings
from dmlbench.verification.config_checks import configuration_findings
from dmlbench.verification.count_checks import count_findings
from dmlbench.verification.field_checks import field_findings
from dmlbench.verification.identity_checks import identity_findings
from dmlbench.verification.score_checks import score_findings
from dmlbench.verification.scores import TOO_LARGE, ScoreSource, scores_beside, scores_digest
from dmlbench.verification.verdict import Finding, Tier, Verdict

INCONSISTENT = "it is inconsistent"
NO_SCORES = f"no scores of single queries ({run_files.PER_QUERY}), so its metrics cannot be recomputed"
NO_EMBEDDINGS = "its embeddings were not evaluated again"


def row_findings(row: Row) -> list[Finding]:
    """Return what contradicts itself in the columns of a row. Takes less than a millisecond.

    Args:
        row: Row of any status.
    """
    return [*identity_findings(row), *field_findings(row), *count_findings(row), *configuration_findings(row)]


def verify_row(row: Row, scores: ScoreSource | None) -> Verdict:
    """Verify a row up to the tier `consistent`. A failed run has no metrics, so it needs no scores.

    Args:
        row: Row to verify.
        scores: Scores of its queries; None if there are none, and the row can only be `claimed`.
    """
    return _verdict(row, [*row_findings(row), *_with_scores(row, scores)], scores)


def verify_run(row: Row) -> Verdict:
    """Verify a row up to the tier `consistent` with the scores beside it.

    Args:
        row: Row with its directory.
    """
    findings, scores = _beside(row)
    return _verdict(row, [*row_findings(row), *findings], scores)


def findings_beside(row: Row) -> list[Finding]:
    """Return what the scores beside a row contradict in it.

    Args:
        row: Row with its directory.
    """
    return _beside(row)[0]


def _beside(row: Row) -> tuple[list[Finding], ScoreSource | None]:
    try:
        scores = scores_beside(row) if row.ok else None
        return [*_replaced(row), *_with_scores(row, scores)], scores
    except ValueError as error:
        return [Finding("scores", str(error))], None


def _verdict(row: Row, findings: Sequence[Finding], scores: ScoreSource | None) -> Verdict:
    if findings:
        return Verdict(row, Tier.CLAIMED, tuple(findings), INCONSISTENT)
    if not row.ok:
        return Verdict(row, Tier.CONSISTENT, (), f"it has no results: {row['status']}")
    if scores is None:
        return Verdict(row, Tier.CLAIMED, (), NO_SCORES)
    return Verdict(row, Tier.CONSISTENT, (), NO_EMBEDDINGS, scores_digest(scores))


def _with_scores(row: Row, scores: ScoreSource | None) -> Iterator[Finding]:
    if scores is None or not row.ok:
        return
    try:
        yield from score_findings(row, scores)
        yield from class_findings(row, scores)
    except ValueError as error:
        yield Finding("scores", f"the scores of its queries cannot be used: {error}")
    except MemoryError:
        yield Finding("scores", f"the scores of its queries cannot be used: {TOO_LARGE}")


def _replaced(row: Row) -> Iterator[Finding]:
    """Yield whether the file of scores is not the one that the run wrote. Rows of earlier versions do not record its digest."""
    recorded = row.get(PER_QUERY_DIGEST)
    if recorded is None or row.folder is None or not row.ok:
        return
    with suppress(FileNotFoundError):
        if sha256(row.folder / run_files.PER_QUERY) != recorded:
            yield Finding("scores", f"{run_files.PER_QUERY} is not what the run wrote ({PER_QUERY_DIGEST})")
