"""Retrieval metrics computed slowly and plainly, in loops over queries, items and orders of tied items.

Nothing here imports the code that it is compared with. Scores are correctly rounded sums (`math.fsum`) of float64 products,
which are exact for float32 embeddings, so two scores tie exactly if they are equal. The expected value of a tie is the mean
over all arrangements of relevant and irrelevant items in its group. All are equally likely, because each stands for the same
number of permutations of the items.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

MAX_ORDERS = 100_000  # per query; the oracle would take too long for more


def oracle_scores(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    ks: Iterable[int],
) -> dict[str, float]:
    """Compute mean metrics over the queries with a relevant item, and counts.

    Args:
        queries: float32 `(Q, D)`.
        gallery: float32 `(G, D)`.
        query_labels: Integers `(Q,)`.
        gallery_labels: Integers `(G,)`.
        query_ids: Integers `(Q,)`.
        gallery_ids: Integers `(G,)`.
        ks: Values of k for `recall_at_<k>`, `precision_at_<k>` and `retrieved_at_<k>`.

    Returns:
        These, `r_precision`, `map_at_r`, `mean_reciprocal_rank`, the same as `macro_*`, `tied_share`, and `n_queries`,
        `n_excluded`, `n_gallery`, `n_tied_queries`.
    """
    ks = list(ks)
    per_query: list[dict[str, float]] = []
    of_class: dict[int, list[dict[str, float]]] = {}
    n_tied, tied_shares = 0, []
    for q in range(len(queries)):
        found = []
        for g in range(len(gallery)):
            if int(gallery_ids[g]) == int(query_ids[q]):
                continue  # the query itself
            score = math.fsum(queries[q].astype(np.float64) * gallery[g].astype(np.float64))
            found.append((score, int(gallery_labels[g]) == int(query_labels[q])))
        n_relevant = sum(relevant for _, relevant in found)
        if n_relevant == 0:
            continue
        groups = tie_groups(found)
        per_query.append(mean_of([order_scores(order, n_relevant, ks) for order in orders(groups)]))
        of_class.setdefault(int(query_labels[q]), []).append(per_query[-1])
        sizes = [len(group) for group in groups for _ in group][:n_relevant]
        tied_shares.append(sum(size > 1 for size in sizes) / n_relevant)
        n_tied += tie_matters(groups, n_relevant)
    means = mean_of(per_query) if per_query else {}
    if per_query:
        means |= {f"macro_{name}": value for name, value in mean_of([mean_of(each) for each in of_class.values()]).items()}
        means["tied_share"] = math.fsum(tied_shares) / len(tied_shares)
    return means | {
        "n_queries": len(per_query),
        "n_excluded": len(queries) - len(per_query),
        "n_gallery": len(gallery),
        "n_tied_queries": n_tied,
    }


def order_scores(order: Sequence[bool], n_relevant: int, ks: Iterable[int]) -> dict[str, float]:
    """Compute the metrics of one query from the relevance of its results in one order."""
    scores: dict[str, float] = {}
    for k in ks:
        scores[f"recall_at_{k}"] = float(any(order[:k]))
        scores[f"precision_at_{k}"] = sum(order[:k]) / k
        scores[f"retrieved_at_{k}"] = sum(order[:k]) / n_relevant
    scores["r_precision"] = sum(order[:n_relevant]) / n_relevant
    precisions = [sum(order[:i]) / i for i in range(1, n_relevant + 1) if order[i - 1]]
    scores["map_at_r"] = sum(precisions) / n_relevant
    scores["mean_reciprocal_rank"] = 1 / (list(order).index(True) + 1)
    return scores


def tie_groups(found: list[tuple[float, bool]]) -> list[list[bool]]:
    """Group the relevance of items by equal score, highest score first."""
    by_score = sorted(found, key=lambda pair: -pair[0])
    return [[relevant for _, relevant in group] for _, group in itertools.groupby(by_score, key=lambda pair: pair[0])]


def orders(groups: list[list[bool]]) -> Iterator[list[bool]]:
    """Iterate over all orders of relevance that result from breaking the ties; all are equally likely."""
    count = math.prod(math.comb(len(group), sum(group)) for group in groups)
    if count > MAX_ORDERS:
        raise ValueError(f"there are {count} orders, more than {MAX_ORDERS}; use fewer items")
    for choice in itertools.product(*[arrangements(len(group), sum(group)) for group in groups]):
        yield [relevant for group in choice for relevant in group]


def arrangements(n: int, r: int) -> Iterator[list[bool]]:
    """Iterate over all ways to put r relevant items at n positions."""
    for relevant in itertools.combinations(range(n), r):
        yield [position in relevant for position in range(n)]


def tie_matters(groups: list[list[bool]], n_relevant: int) -> bool:
    """Return whether a relevant and an irrelevant item tie within the first R ranks."""
    start = 0
    for group in groups:
        if start < n_relevant and any(group) and not all(group):
            return True
        start += len(group)
    return False


def mean_of(scores: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each entry."""
    return {name: math.fsum(each[name] for each in scores) / len(scores) for name in scores[0]}
