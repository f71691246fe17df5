"""Compare rows with each other: rows of one split have the same counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from dmlbench.config.schema import Scalar
from dmlbench.verification.row_checks import INCONSISTENT
from dmlbench.verification.verdict import Finding, Tier, Verdict

_COUNTS = ("n_images", "n_test_classes", "n_query_images", "n_gallery_images")


def with_group_findings(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Compare the counts of rows whose images have the same digest.

    Args:
        verdicts: Verdicts of rows that are verified together.

    Returns:
        As many verdicts. The rows with other counts than most rows of their split are inconsistent; all, if there is no
        majority.
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
    return found


def _with(verdict: Verdict, finding: Finding) -> Verdict:
    return replace(verdict, tier=Tier.CLAIMED, findings=(*verdict.findings, finding), why_not_next=INCONSISTENT)
