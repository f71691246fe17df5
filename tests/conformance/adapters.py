"""Implementations as the function that the cases call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dmlbench(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    ks: Sequence[int],
) -> dict[str, float]:
    """Call dmlbench."""
    import torch

    from dmlbench.evaluation import rank, score

    arrays = (queries, gallery, query_labels, gallery_labels, query_ids, gallery_ids)
    found = score(rank(*map(torch.from_numpy, arrays), depth=max(ks)), ks)
    return {name: value for name, value in found.items() if not name.startswith("n_")}


def pytorch_metric_learning(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    ks: Sequence[int],
) -> dict[str, float]:
    """Call AccuracyCalculator as in its documentation: with faiss, and k the largest number of relevant items.

    It does not use ids. If the queries are in the gallery, it leaves out the first neighbour.
    """
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    included = bool(np.isin(query_ids, gallery_ids).all())
    if included:  # it requires that the gallery begins with the queries
        position = {item: number for number, item in enumerate(query_ids.tolist())}
        order = np.argsort([position.get(item, len(position)) for item in gallery_ids.tolist()], kind="stable")
        gallery, gallery_labels = gallery[order], gallery_labels[order]
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"), k="max_bin_count", device=torch.device("cpu")
    )
    found = calculator.get_accuracy(
        *(torch.from_numpy(values) for values in (queries, query_labels, gallery, gallery_labels)), ref_includes_query=included
    )
    return {
        "recall_at_1": found["precision_at_1"],
        "r_precision": found["r_precision"],
        "map_at_r": found["mean_average_precision_at_r"],
    }


def drop_first(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    ks: Sequence[int],
) -> dict[str, float]:
    """Sort, drop the first neighbour of each query, and divide by the number of queries, as much research code does."""
    order = np.argsort(-(queries @ gallery.T), axis=1)
    if np.isin(query_ids, gallery_ids).any():
        order = order[:, 1:]
    hits = gallery_labels[order] == query_labels[:, None]
    found = {f"recall_at_{k}": float(hits[:, :k].any(1).mean()) for k in ks}
    found |= {f"precision_at_{k}": float(hits[:, :k].mean()) for k in ks}
    r_precision, map_at_r = [], []
    for row in hits:
        n_relevant = row.sum()
        first = row[:n_relevant]
        r_precision.append(first.mean() if n_relevant else 0.0)
        map_at_r.append((np.cumsum(first) / np.arange(1, n_relevant + 1) * first).mean() if n_relevant else 0.0)
    return {**found, "r_precision": float(np.mean(r_precision)), "map_at_r": float(np.mean(map_at_r))}


KNOWN = {"dmlbench": dmlbench, "pytorch-metric-learning": pytorch_metric_learning, "drop-first": drop_first}
