"""The expected metrics, computed slowly: scores by `math.fsum`, ties by the probabilities of positions and of pairs of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def expected(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    ks: Sequence[int],
) -> dict[str, float]:
    """Compute the means of all metrics over the queries that have a relevant item.

    Args:
        queries: float32 `(Q, D)`.
        gallery: float32 `(G, D)`.
        query_labels: int64 `(Q,)`.
        gallery_labels: int64 `(G,)`.
        query_ids: int64 `(Q,)`.
        gallery_ids: int64 `(G,)`.
        ks: Values of k for `recall_at_<k>` and `precision_at_<k>`.
    """
    found = []
    for row, label, own in zip(queries, query_labels.tolist(), query_ids.tolist(), strict=True):
        scored = [
            (math.fsum(row.astype(float) * other.astype(float)), int(other_label == label))
            for other, other_label, item in zip(gallery, gallery_labels.tolist(), gallery_ids.tolist(), strict=True)
            if item != own
        ]
        if any(relevant for _, relevant in scored):
            found.append(_query(scored, ks))
    return {name: math.fsum(one[name] for one in found) / len(found) for name in found[0]}


def _query(scored: list[tuple[float, int]], ks: Sequence[int]) -> dict[str, float]:
    groups: dict[float, list[int]] = {}
    for score, relevant in sorted(scored, reverse=True):
        groups.setdefault(score, []).append(relevant)
    n_relevant = sum(relevant for _, relevant in scored)
    # Of each rank: index, size and number of relevant items of its tie group.
    ranks = [(number, len(group), sum(group)) for number, group in enumerate(groups.values()) for _ in group]
    probability = [Fraction(r, n) for _, n, r in ranks]

    def both(i: int, j: int) -> Fraction:
        """Return the probability that the items at ranks i and j are both relevant."""
        if i == j:
            return probability[i]
        (group, n, r), (other, _, _) = ranks[i], ranks[j]
        return Fraction(r * (r - 1), n * (n - 1)) if group == other else probability[i] * probability[j]

    columns: dict[str, float] = {}
    for k in ks:
        columns[f"recall_at_{k}"] = float(1 - _none_relevant(list(groups.values()), k))
        columns[f"precision_at_{k}"] = float(sum(probability[:k]) / k)
    columns["r_precision"] = float(sum(probability[:n_relevant]) / n_relevant)
    precisions = (sum(both(i, j) for j in range(i + 1)) / (i + 1) for i in range(n_relevant))
    columns["map_at_r"] = float(sum(precisions) / n_relevant)
    return columns


def _none_relevant(groups: list[list[int]], k: int) -> Fraction:
    """Return the probability that none of the first k items is relevant."""
    probability, left = Fraction(1), k
    for group in groups:
        n, r, drawn = len(group), sum(group), min(left, len(group))
        probability *= Fraction(math.comb(n - r, drawn), math.comb(n, drawn))
        left -= drawn
    return probability
