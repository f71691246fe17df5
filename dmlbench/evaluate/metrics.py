"""Floor 4: retrieval metrics, each a pure function of the order that a `Ranking` holds.

All of them score a tie by its expected value over random orders of the tied items, in closed form, after
McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
scores", ECIR 2008. A collapsed embedding, one tie group a query, so scores chance. All lie in [0, 1]; higher
is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluate.ranking import Ranking

# Precision@k is given up to here; Recall@k needs no list of k neighbours, and is given for any k.
PRECISION_DEPTH = 10


def recall_at_k(ranking: Ranking, k: int) -> Tensor:
    """Probability that at least one of the first k items is relevant, as deep metric learning uses the word.

    Where the best relevant item's tie group has n items, r of them relevant, and `above` items stand over it,
    m = k - above of the group lie among the first k: `1 - C(n-r, m) / C(n, m)`.

    Args:
        ranking: of any depth.
        k: at least 1; may exceed the ranking's depth and the gallery.

    Returns:
        float64 `(Q,)`, 0 or 1 where no tie matters.

    Raises:
        ValueError: k is below 1.

    Source: Oh Song, Xiang, Jegelka, Savarese, "Deep metric learning via lifted structured feature embedding",
        CVPR 2016.
    """
    if k < 1:
        raise ValueError(f"recall_at_k needs k of at least 1, not {k}")
    n, r = ranking.best_tied, ranking.best_tied_relevant
    m = (k - ranking.best_above).clamp(min=0)  # beyond n a factor is 0: all of the group is found
    # C(n-r, m) / C(n, m) is symmetric in r and m: a product of min(r, m) factors, each one exact division.
    fewer, more = r.minimum(m), r.maximum(m)
    miss = torch.ones(ranking.n_queries, dtype=torch.float64)
    for j in range(int(fewer.max()) if ranking.n_queries else 0):
        factor = (n - more - j).clamp(min=0).double() / (n - j).clamp(min=1).double()
        miss = torch.where(j < fewer, miss * factor, miss)
    return 1 - miss


def precision_at_k(ranking: Ranking, k: int) -> Tensor:
    """Share of relevant items among the first k; the denominator is always k.

    Args:
        ranking: at least k deep.
        k: in [1, ranking.depth].

    Returns:
        float64 `(Q,)`.

    Raises:
        ValueError: k is below 1 or beyond the ranking's depth.
    """
    if not 1 <= k <= ranking.depth:
        raise ValueError(f"precision_at_k needs k from 1 to the ranking's depth {ranking.depth}, not {k}")
    return _chance_of_relevant(ranking)[:, :k].sum(1) / k


def r_precision(ranking: Ranking) -> Tensor:
    """Share of relevant items among the first R, where R is the number of relevant items of the query.

    Returns:
        float64 `(Q,)`; 1 for a perfect embedding, however small the class.

    Source: Musgrave, Belongie, Lim, "A metric learning reality check", ECCV 2020.
    """
    return (_chance_of_relevant(ranking) * _within_r(ranking)).sum(1) / ranking.n_relevant


def map_at_r(ranking: Ranking) -> Tensor:
    """Mean average precision over the first R ranks: the precisions at the relevant ones, summed, over R.

    In a tie group of n items, r of them relevant, with c relevant items above it, the item at position t of
    the group and overall rank i contributes `(r/n) (c + 1 + (t-1)(r-1)/(n-1)) / i`.

    Returns:
        float64 `(Q,)`; 1 for a perfect embedding, however small the class.

    Source: Musgrave, Belongie, Lim, "A metric learning reality check", ECCV 2020.
    """
    column = torch.arange(ranking.depth)
    start, n, r = ranking.group_start, ranking.group_size, ranking.group_relevant
    above = torch.where(start == column, r, 0).cumsum(1) - r
    # In a group of one, the position before is 0 and the denominator does not matter.
    before = ((column - start) * (r - 1)).double() / (n - 1).clamp(min=1)
    precision = (above + 1 + before) / (column + 1)
    return (_chance_of_relevant(ranking) * precision * _within_r(ranking)).sum(1) / ranking.n_relevant


def score(ranking: Ranking, ks: Iterable[int]) -> dict[str, float]:
    """All metrics as columns of a row: means over the evaluated queries, and what they were taken over.

    Args:
        ranking: at least one evaluated query.
        ks: for `recall_at_<k>`, each at least 1; `precision_at_<k>` is given for those within the depth.

    Returns:
        `recall_at_<k>`, `precision_at_<k>`, `r_precision`, `map_at_r` in [0, 1], and the counts `n_queries`
        (evaluated), `n_excluded` (no relevant item), `n_gallery`, `n_tied_queries` (a relevant and an
        irrelevant item tie for a place among the first R). The order of the queries changes no bit of it.

    Raises:
        UserError: no query has a relevant item.
    """
    if not ranking.n_queries:
        raise UserError(
            f"none of the {ranking.n_excluded:,} queries has another image of its class in the gallery "
            f"of {ranking.n_gallery:,}; retrieval needs a test class with two images"
        )
    ks = list(ks)
    per_query = {f"recall_at_{k}": recall_at_k(ranking, k) for k in ks}
    per_query |= {f"precision_at_{k}": precision_at_k(ranking, k) for k in ks if k <= ranking.depth}
    per_query |= {"r_precision": r_precision(ranking), "map_at_r": map_at_r(ranking)}
    # fsum rounds once, so the order of the queries cannot show in the mean.
    columns: dict[str, float] = {name: math.fsum(values.tolist()) / ranking.n_queries for name, values in per_query.items()}
    mixed = (ranking.group_relevant > 0) & (ranking.group_relevant < ranking.group_size)
    return columns | {
        "n_queries": ranking.n_queries,
        "n_excluded": ranking.n_excluded,
        "n_gallery": ranking.n_gallery,
        "n_tied_queries": int((mixed & _within_r(ranking)).any(1).sum()),
    }


def _chance_of_relevant(ranking: Ranking) -> Tensor:
    """How likely the item at each rank is relevant, float64 `(Q, K)`."""
    return ranking.group_relevant.double() / ranking.group_size


def _within_r(ranking: Ranking) -> Tensor:
    """Whether each rank is among the query's first R, bool `(Q, K)`."""
    return torch.arange(ranking.depth) < ranking.n_relevant[:, None]
