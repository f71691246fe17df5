"""Retrieval metrics of each query, pure functions of a `Ranking`.

A tie counts with its expected value over random orders of the tied items, in closed form, after McSherry and Najork, "Computing
information retrieval performance measures efficiently in the presence of tied scores", ECIR 2008. A collapsed embedding, in
which all items of a query tie, therefore scores at chance level. All metrics are in [0, 1]; higher is better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmlbench.evaluation.ranking import Ranking

_MAX_CASE_POSITIONS = 2**22  # positions of tie groups that are processed at a time


def recall_at_k(ranking: Ranking, k: int) -> Tensor:
    """Compute the probability that at least one of the first k items is relevant (the definition of deep metric learning).

    Let the tie group of the best relevant item have n items, r of them relevant, with `above` items ranked higher. Then
    m = k - above items of the group are among the first k, and the probability is `1 - C(n-r, m) / C(n, m)`.

    Args:
        ranking: Ranking of any depth.
        k: At least 1; may exceed the depth of the ranking and the size of the gallery.

    Returns:
        float64 `(Q,)`; 0 or 1 if no tie matters.

    Raises:
        ValueError: k is below 1.

    Source: Oh Song, Xiang, Jegelka, Savarese, "Deep metric learning via lifted structured feature embedding",
        CVPR 2016.
    """
    if k < 1:
        raise ValueError(f"recall_at_k needs k of at least 1, not {k}")
    n, r = ranking.best_tied, ranking.best_tied_relevant
    m = (k - ranking.best_above).clamp(min=0)  # if m exceeds n, a factor is 0
    # C(n-r, m) / C(n, m) is symmetric in r and m: a product of min(r, m) factors, each rounded once.
    fewer, more = r.minimum(m), r.maximum(m)
    miss = torch.ones(ranking.n_queries, dtype=torch.float64)
    for j in range(int(fewer.max()) if ranking.n_queries else 0):
        factor = (n - more - j).clamp(min=0).double() / (n - j).clamp(min=1).double()
        miss = torch.where(j < fewer, miss * factor, miss)
    return 1 - miss


def precision_at_k(ranking: Ranking, k: int) -> Tensor:
    """Compute the number of relevant items among the first k, divided by k, even if R is below k.

    Args:
        ranking: Ranking of depth k or more.
        k: In [1, ranking.depth].

    Returns:
        float64 `(Q,)`.

    Raises:
        ValueError: k is below 1 or above the depth of the ranking.
    """
    if not 1 <= k <= ranking.depth:
        raise ValueError(f"precision_at_k needs k from 1 to the ranking's depth {ranking.depth}, not {k}")
    return ranking.probability_of_relevant[:, :k].sum(1) / k


def r_precision(ranking: Ranking) -> Tensor:
    """Compute the number of relevant items among the first R, divided by R, the query's number of relevant items.

    Args:
        ranking: Ranking of any depth.

    Returns:
        float64 `(Q,)`; 1 for a perfect embedding, for classes of any size.

    Source: Musgrave, Belongie, Lim, "A metric learning reality check", ECCV 2020.
    """
    return (ranking.probability_of_relevant * _within_r(ranking)).sum(1) / ranking.n_relevant


def map_at_r(ranking: Ranking) -> Tensor:
    """Compute MAP@R: the sum of the precision at each rank up to R whose item is relevant, divided by R.

    In a tie group of n items, r of them relevant, with c relevant items above it, the item at position t of the group and
    overall rank i contributes `(r/n) (c + 1 + (t-1)(r-1)/(n-1)) / i` to the sum.

    Args:
        ranking: Ranking of any depth.

    Returns:
        float64 `(Q,)`; 1 for a perfect embedding, for classes of any size.

    Source: Musgrave, Belongie, Lim, "A metric learning reality check", ECCV 2020.
    """
    column = torch.arange(ranking.depth)
    start, n, r = ranking.group_start, ranking.group_size, ranking.group_relevant
    above = torch.where(start == column, r, 0).cumsum(1) - r
    # In a group of one item, the numerator is 0 and the denominator does not matter.
    before = ((column - start) * (r - 1)).double() / (n - 1).clamp(min=1)
    precision = (above + 1 + before) / (column + 1)
    return (ranking.probability_of_relevant * precision * _within_r(ranking)).sum(1) / ranking.n_relevant


def retrieved_at_k(ranking: Ranking, k: int) -> Tensor:
    """Compute the number of relevant items among the first k, divided by R (recall in information retrieval).

    Args:
        ranking: Ranking of depth k or more.
        k: In [1, ranking.depth].

    Returns:
        float64 `(Q,)`.

    Raises:
        ValueError: k is below 1 or above the depth of the ranking.
    """
    return precision_at_k(ranking, k) * k / ranking.n_relevant


def mean_reciprocal_rank(ranking: Ranking) -> Tensor:
    """Compute 1 divided by the rank of the first relevant item.

    Let the tie group of the best relevant item have n items, r of them relevant, with `above` items ranked higher. The first
    relevant item is at position t of the group, and at rank `above + t`, with probability `C(n-t, r-1) / C(n, r)`.

    Args:
        ranking: Ranking of any depth.

    Returns:
        float64 `(Q,)`.
    """
    cases, of_query = torch.stack([ranking.best_tied, ranking.best_tied_relevant, ranking.best_above]).unique(
        dim=1, return_inverse=True
    )
    values = torch.empty(cases.shape[1], dtype=torch.float64)
    begin = 0
    while begin < len(values):  # the cases ascend in n, so that cases of about the same length are in one matrix
        rest = cases[0, begin:]
        n_cases = int((rest * torch.arange(1, len(rest) + 1) <= _MAX_CASE_POSITIONS).sum()) or 1
        n, r, above = cases[:, begin : begin + n_cases, None]
        t = torch.arange(1, int(n.max()) + 1)
        # Probability that position t is relevant if no position before it is.
        hit = torch.where(t <= n - r + 1, r.double() / (n - t + 1).clamp(min=1), 0)
        before = (1 - hit).cumprod(1).roll(1, dims=1)
        before[:, 0] = 1
        values[begin : begin + n_cases] = (before * hit / (above + t)).sum(1)
        begin += n_cases
    return values[of_query]


def tied_share(ranking: Ranking) -> Tensor:
    """Compute the share of the first R ranks whose item has the same score as another one.

    Args:
        ranking: Ranking of any depth.

    Returns:
        float64 `(Q,)`.
    """
    return ((ranking.group_size > 1) & _within_r(ranking)).sum(1) / ranking.n_relevant.double()


def has_mixed_tie(ranking: Ranking) -> Tensor:
    """Return whether a relevant and an irrelevant item tie within the first R ranks.

    Args:
        ranking: Ranking of any depth.

    Returns:
        bool `(Q,)`.
    """
    mixed = (ranking.group_relevant > 0) & (ranking.group_relevant < ranking.group_size)
    return (mixed & _within_r(ranking)).any(1)


def _within_r(ranking: Ranking) -> Tensor:
    """Return whether each rank is among the first R of its query, bool `(Q, K)`."""
    return torch.arange(ranking.depth) < ranking.n_relevant[:, None]
