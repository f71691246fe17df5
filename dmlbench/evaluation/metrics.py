"""Retrieval metrics, each a pure function of the order that a `Ranking` holds.

All of them score a tie by its expected value over random orders of the tied items, in closed form, after
McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
scores", ECIR 2008. A collapsed embedding, one tie group a query, so scores chance. All lie in [0, 1]; higher
is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluation.ranking import Ranking
from dmlbench.results.metric_specs import MACRO

# Precision@k is given up to here; Recall@k needs no list of k neighbours, and is given for any k.
PRECISION_DEPTH = 10
_CASES_AT_ONCE = 2**22


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


def retrieved_at_k(ranking: Ranking, k: int) -> Tensor:
    """Share of the relevant items that stand among the first k: what information retrieval calls recall.

    Args:
        ranking: at least k deep.
        k: in [1, ranking.depth].

    Returns:
        float64 `(Q,)`.

    Raises:
        ValueError: k is below 1 or beyond the ranking's depth.
    """
    return precision_at_k(ranking, k) * k / ranking.n_relevant


def mean_reciprocal_rank(ranking: Ranking) -> Tensor:
    """One over the rank of the first relevant item.

    Where `above` items stand over the best relevant item's tie group of n items, r of them relevant, the first relevant one
    stands at position t of the group with the probability `C(n-t, r-1) / C(n, r)`, and at rank `above + t`.

    Args:
        ranking: of any depth.

    Returns:
        float64 `(Q,)`.
    """
    cases, of_query = torch.stack([ranking.best_tied, ranking.best_tied_relevant, ranking.best_above]).unique(
        dim=1, return_inverse=True
    )
    values = torch.empty(cases.shape[1], dtype=torch.float64)
    begin = 0
    while begin < len(values):  # ascending in n, so that cases of about the same length share a matrix
        rest = cases[0, begin:]
        n_cases = int((rest * torch.arange(1, len(rest) + 1) <= _CASES_AT_ONCE).sum()) or 1
        n, r, above = cases[:, begin : begin + n_cases, None]
        t = torch.arange(1, int(n.max()) + 1)
        # the chance that position t is relevant where none before it is
        hit = torch.where(t <= n - r + 1, r.double() / (n - t + 1).clamp(min=1), 0)
        before = (1 - hit).cumprod(1).roll(1, dims=1)
        before[:, 0] = 1
        values[begin : begin + n_cases] = (before * hit / (above + t)).sum(1)
        begin += n_cases
    return values[of_query]


def tied_share(ranking: Ranking) -> Tensor:
    """Share of the first R ranks whose item ties with another, float64 `(Q,)`."""
    return ((ranking.group_size > 1) & _within_r(ranking)).sum(1) / ranking.n_relevant.double()


def per_query(ranking: Ranking, ks: Iterable[int]) -> dict[str, Tensor]:
    """Every retrieval metric of every evaluated query.

    Args:
        ranking: of any depth.
        ks: of `recall_at_<k>`, each at least 1; `precision_at_<k>` and `retrieved_at_<k>` are given for those within the depth.

    Returns:
        Column name to float64 `(Q,)`, in [0, 1].

    Raises:
        UserError: no query has a relevant item.
    """
    if not ranking.n_queries:
        raise UserError(
            f"none of the {ranking.n_excluded:,} queries has another image of its class in the gallery "
            f"of {ranking.n_gallery:,}; retrieval needs a test class with two images"
        )
    ks = list(ks)
    within = [k for k in ks if k <= ranking.depth]
    return {
        **{f"recall_at_{k}": recall_at_k(ranking, k) for k in ks},
        **{f"precision_at_{k}": precision_at_k(ranking, k) for k in within},
        **{f"retrieved_at_{k}": retrieved_at_k(ranking, k) for k in within},
        "r_precision": r_precision(ranking),
        "map_at_r": map_at_r(ranking),
        "mean_reciprocal_rank": mean_reciprocal_rank(ranking),
    }


def score(ranking: Ranking, ks: Iterable[int]) -> dict[str, float]:
    """All retrieval metrics as columns of a row, and what they were taken over.

    Args:
        ranking: at least one evaluated query.
        ks: see `per_query`.

    Returns:
        Of each metric the mean over the queries, and as `macro_<metric>` the mean over the classes of their means; the counts
        `n_queries` (evaluated), `n_excluded` (no relevant item), `n_gallery`, `n_tied_queries` (a relevant and an irrelevant
        item tie for a place among the first R), and `tied_share`. The order of the queries changes no bit of it.

    Raises:
        UserError: no query has a relevant item.
    """
    return summarize(score_queries(ranking, ks))


@dataclass(frozen=True, eq=False)
class QueryScores:
    """What each evaluated query scored, Q of them.

    Args:
        ids: int64 `(Q,)`.
        labels: int64 `(Q,)`.
        values: of `per_query`.
        tied: bool `(Q,)`, whether a relevant and an irrelevant item tie for a place among the first R.
        shares: float64 `(Q,)`, of `tied_share`.
        n_excluded: queries without a relevant item.
        n_gallery: items in the gallery.
    """

    ids: Tensor
    labels: Tensor
    values: dict[str, Tensor]
    tied: Tensor
    shares: Tensor
    n_excluded: int
    n_gallery: int


def score_queries(ranking: Ranking, ks: Iterable[int]) -> QueryScores:
    """All that a row needs of a ranking; it takes no room for ranks.

    Raises:
        UserError: no query has a relevant item.
    """
    values = per_query(ranking, ks)
    mixed = (ranking.group_relevant > 0) & (ranking.group_relevant < ranking.group_size)
    tied = (mixed & _within_r(ranking)).any(1)
    ids, labels = ranking.query_ids, ranking.query_labels
    return QueryScores(ids, labels, values, tied, tied_share(ranking), ranking.n_excluded, ranking.n_gallery)


def concatenate_scores(parts: Sequence[QueryScores]) -> QueryScores:
    """The scores of different queries in one gallery, by id; with the metrics that all of them have."""
    first, *others = parts
    if not others:
        return first
    ids = torch.cat([part.ids for part in parts])
    order = ids.argsort()
    return QueryScores(
        ids=ids[order],
        labels=torch.cat([part.labels for part in parts])[order],
        values={
            name: torch.cat([part.values[name] for part in parts])[order]
            for name in first.values
            if all(name in part.values for part in parts)
        },
        tied=torch.cat([part.tied for part in parts])[order],
        shares=torch.cat([part.shares for part in parts])[order],
        n_excluded=sum(part.n_excluded for part in parts),
        n_gallery=first.n_gallery,
    )


def summarize(found: QueryScores) -> dict[str, float]:
    """See `score`."""
    columns: dict[str, float] = {name: _mean(each) for name, each in found.values.items()}
    columns |= {f"{MACRO}{name}": _macro_mean(each, found.labels) for name, each in found.values.items()}
    return columns | {
        "n_queries": len(found.ids),
        "n_excluded": found.n_excluded,
        "n_gallery": found.n_gallery,
        "n_tied_queries": int(found.tied.sum()),
        "tied_share": _mean(found.shares),
    }


def _mean(values: Tensor) -> float:
    return math.fsum(values.tolist()) / len(values)  # fsum rounds once, so the order of the queries cannot show


def _macro_mean(values: Tensor, labels: Tensor) -> float:
    """The mean over classes; each is summed in whole numbers of 2^-40, so the order of its queries cannot show."""
    _, place, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros_like(counts).index_add_(0, place, (values * 2.0**40).round().long())
    return _mean(sums.double() / 2.0**40 / counts)


def _chance_of_relevant(ranking: Ranking) -> Tensor:
    """How likely the item at each rank is relevant, float64 `(Q, K)`."""
    return ranking.group_relevant.double() / ranking.group_size


def _within_r(ranking: Ranking) -> Tensor:
    """Whether each rank is among the query's first R, bool `(Q, K)`."""
    return torch.arange(ranking.depth) < ranking.n_relevant[:, None]
