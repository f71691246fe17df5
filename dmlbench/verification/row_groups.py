"""Compare rows with each other: rows of one split have the same counts, and two seeds do not have the same scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from dmlbench.config.schema import Scalar
from dmlbench.results.row import BASELINES, EXTERNAL, Row
from dmlbench.verification.row_checks import INCONSISTENT
from dmlbench.verification.verdict import Finding, Tier, Verdict

_COUNTS = ("n_images", "n_test_classes", "n_query_images", "n_gallery_images")


def with_group_findings(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Compare the counts of rows whose images have the same digest, and the scores of rows that differ only in the seed.

    Args:
        verdicts: Verdicts of rows that are verified together.

    Returns:
        As many verdicts. The rows with other counts than most rows of their split are inconsistent; all, if there is no
        majority. So are the rows of all seeds that have the same scores.
    """
    by_split: dict[tuple[Scalar, Scalar], list[int]] = {}
    for index, verdict in enumerate(verdicts):
        row = verdict.row
        if row.get("n_images") is not None and row.get("split_digest") is not None:
            by_split.setdefault((row["dataset"], row["split_digest"]), []).append(index)
    found = list(verdicts)
    for indices in by_split.values():
        for name in _COUNTS:
            counts = Counter(verdicts[index].row.get(name) for index in indices if verdicts[index].row.get(name) is not None)
            if len(counts) < 2:
                continue
            (usual, n_usual), *_ = counts.most_common()
            is_majority = 2 * n_usual > sum(counts.values())
            for index in indices:
                value = verdicts[index].row.get(name)
                if value is not None and not (is_majority and value == usual):
                    others = usual if value != usual else "other counts"
                    message = f"{name} is {value}, but other rows of the same images have {others}"
                    found[index] = _with(found[index], Finding(name, message))
    for index, other in same_scores(verdicts).items():
        found[index] = _with(found[index], Finding("scores", f"its scores are those of seed {verdicts[other].row.seed}"))
    return found


def same_scores(verdicts: Sequence[Verdict]) -> dict[int, int]:
    """Find rows of one method whose scores, embeddings or model are those of another seed, which training does not give.

    Args:
        verdicts: Verdicts of rows.

    Returns:
        Index of each such row to that of the first one with another seed.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, verdict in enumerate(verdicts):
        for key in _trained(verdict):
            groups.setdefault((verdict.row["fingerprint"], verdict.row["method_digest"], *key), []).append(index)
    found = {}
    for same in groups.values():
        for index in same if len({verdicts[one].row.seed for one in same}) > 1 else ():
            found[index] = next(one for one in same if verdicts[one].row.seed != verdicts[index].row.seed)
    return found


def _trained(verdict: Verdict) -> Iterator[tuple[str, Scalar]]:
    """Yield what only one seed has, with its name. Baselines do not depend on the seed."""
    row = verdict.row
    if not row.ok or row["loss"] in BASELINES or row.get("loss_kind") == "none" or row["protocol"] == EXTERNAL:
        return
    if verdict.scores and not _is_extreme(row):
        yield "scores", verdict.scores
    for name in ("embeddings_sha256", "model_sha256"):
        if row.get(name) is not None:
            yield name, row[name]


def _is_extreme(row: Row) -> bool:
    """Whether every ranking is perfect, or all items are tied, which several seeds may reach."""
    return row.number("map_at_r") == 1 or row.get("n_tied_queries") == row.get("n_queries")


def _with(verdict: Verdict, finding: Finding) -> Verdict:
    return replace(verdict, tier=Tier.CLAIMED, findings=(*verdict.findings, finding), why_not_next=INCONSISTENT)
