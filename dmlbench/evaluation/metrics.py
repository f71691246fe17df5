"""All retrieval metrics of a ranking, as scores of each query and as columns of a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluation.query_metrics import (
    has_mixed_tie,
    map_at_r,
    mean_reciprocal_rank,
    precision_at_k,
    r_precision,
    recall_at_k,
    retrieved_at_k,
    tied_share,
)
from dmlbench.evaluation.ranking import Ranking
from dmlbench.results.metric_specs import MACRO

# Largest k for which Precision@k is always computed. Recall@k needs no list of k neighbours and is computed for any k.
PRECISION_DEPTH = 10


def per_query(ranking: Ranking, ks: Iterable[int]) -> dict[str, Tensor]:
    """Compute every retrieval metric of every evaluated query.

    Args:
        ranking: Ranking of any depth.
        ks: Values of k for `recall_at_<k>`, each at least 1. `precision_at_<k>` and `retrieved_at_<k>` are computed for those
            up to the depth of the ranking.

    Returns:
        Column name to scores in [0, 1], float64 `(Q,)`.

    Raises:
        UserError: No query has a relevant item.
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
    """Compute all retrieval metrics as columns of a row.

    Args:
        ranking: Ranking with at least one evaluated query.
        ks: See `per_query`.

    Returns:
        The mean of each metric over queries, and as `macro_<metric>` the mean over classes of the classes' means; the counts
        `n_queries` (evaluated), `n_excluded` (without a relevant item), `n_gallery`, and `n_tied_queries` (a relevant and an
        irrelevant item tie within the first R ranks); and `tied_share`. The order of the queries does not change a bit.

    Raises:
        UserError: No query has a relevant item.
    """
    return summarize(score_queries(ranking, ks))


@dataclass(frozen=True, eq=False)
class QueryScores:
    """Scores of Q evaluated queries.

    Args:
        ids: int64 `(Q,)`.
        labels: int64 `(Q,)`.
        values: Result of `per_query`.
        is_tied: bool `(Q,)`, whether a relevant and an irrelevant item tie within the first R ranks.
        tied_shares: float64 `(Q,)`, result of `tied_share`.
        n_excluded: Number of queries without a relevant item.
        n_gallery: Number of items in the gallery.
    """

    ids: Tensor
    labels: Tensor
    values: dict[str, Tensor]
    is_tied: Tensor
    tied_shares: Tensor
    n_excluded: int
    n_gallery: int


def score_queries(ranking: Ranking, ks: Iterable[int]) -> QueryScores:
    """Compute all that a row needs from a ranking. The result is small: it contains no ranks.

    Args:
        ranking: Ranking with at least one evaluated query.
        ks: See `per_query`.

    Raises:
        UserError: No query has a relevant item.
    """
    values = per_query(ranking, ks)
    ids, labels = ranking.query_ids, ranking.query_labels
    counts = ranking.n_excluded, ranking.n_gallery
    return QueryScores(ids, labels, values, has_mixed_tie(ranking), tied_share(ranking), *counts)


def concatenate_scores(parts: Sequence[QueryScores]) -> QueryScores:
    """Concatenate the scores of different queries in one gallery, ordered by id.

    Args:
        parts: Scores of some of the queries each, one part at least.

    Returns:
        Scores of all queries, with the metrics that all parts have.
    """
    first = parts[0]
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
        is_tied=torch.cat([part.is_tied for part in parts])[order],
        tied_shares=torch.cat([part.tied_shares for part in parts])[order],
        n_excluded=sum(part.n_excluded for part in parts),
        n_gallery=first.n_gallery,
    )


def summarize(scores: QueryScores) -> dict[str, float]:
    """Compute the columns that `score` returns.

    Args:
        scores: Scores of all evaluated queries.
    """
    columns: dict[str, float] = {name: _mean(each) for name, each in scores.values.items()}
    columns |= {f"{MACRO}{name}": _macro_mean(each, scores.labels) for name, each in scores.values.items()}
    return columns | {
        "n_queries": len(scores.ids),
        "n_excluded": scores.n_excluded,
        "n_gallery": scores.n_gallery,
        "n_tied_queries": int(scores.is_tied.sum()),
        "tied_share": _mean(scores.tied_shares),
    }


def _mean(values: Tensor) -> float:
    return math.fsum(values.tolist()) / len(values)  # fsum rounds once, so the order of the queries does not matter


def _macro_mean(values: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of their means. Sums are integer multiples of 2^-40, so the order does not matter."""
    _, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros_like(counts).index_add_(0, index, (values * 2.0**40).round().long())
    return _mean(sums.double() / 2.0**40 / counts)
