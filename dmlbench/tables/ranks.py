"""Ranks of methods, and how well two rankings agree."""

from __future__ import annotations

from collections.abc import Sequence


def ranks(scores: Sequence[float | None]) -> list[int | None]:
    """Return the rank of each score, 1 for the highest; equal scores have the same rank.

    Args:
        scores: Scores; None for a missing one.

    Returns:
        As many ranks; None for a missing score.

    >>> ranks([0.5, None, 0.7, 0.5])
    [2, None, 1, 2]
    """
    known = [score for score in scores if score is not None]
    return [None if score is None else 1 + sum(other > score for other in known) for score in scores]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; equal numbers share their mean rank.

    Args:
        first: Numbers.
        second: As many numbers.

    Returns:
        The correlation; None if all numbers of a list are equal.

    >>> spearman([1, 2, 3], [10, 30, 20]), spearman([1, 1, 2], [1, 1, 2]), spearman([1, 1], [1, 2])
    (0.5, 1.0, None)
    """

    def deviations(values: Sequence[float]) -> list[float]:
        mean_ranks = [sum(other < value for other in values) + (values.count(value) + 1) / 2 for value in values]
        return [rank - (len(values) + 1) / 2 for rank in mean_ranks]

    a, b = deviations(first), deviations(second)
    norm = (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
    return round(sum(x * y for x, y in zip(a, b, strict=True)) / norm, 12) if norm else None
