"""Convert the scores of single queries to their compact form, which `compact_scores` describes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dmlbench.results.compact_scores import INDEX, VALUE, CompactScores, Tensors, divided, smallest
from dmlbench.results.metric_specs import parse_metric

# Largest difference between a score and what is restored. Scores of one model in float64 are restored bit by bit.
_SINGLE = 1e-7  # of scores in float32
_ORDER = 1e-12  # of means over models, which depend on the order of operations
_BYTES_PER_EXCEPTION = 12


def compact_scores(scores: Tensors, n_models: int = 1) -> dict[str, np.ndarray]:
    """Convert the scores of queries to their compact form.

    Args:
        scores: `ids` and `labels`, integers `(Q,)`, and the scores of each metric `(Q,)`. Other arrays are left out.
        n_models: Number of models over which the metrics without prefix `concatenated_` are means.

    Returns:
        Arrays by name, from which `CompactScores` restores the scores.
    """
    ids, labels = scores["ids"], scores["labels"]
    first = int(ids[0]) if len(ids) else 0
    is_range = first >= 0 and np.array_equal(ids, np.arange(first, first + len(ids)))
    found = {"first_id": smallest(np.array([first]))} if is_range else {"ids": smallest(ids)}
    found["labels"] = smallest(labels)
    if n_models > 1:
        found["n_models"] = np.array([n_models], np.uint8)
    metrics = {name: values.astype(np.float64) for name, values in scores.items() if parse_metric(name) is not None}
    for name, values in _integers(metrics, labels, n_models):
        found[name] = smallest(values)
    restored = CompactScores(found)
    for name in metrics:
        found |= _exceptions(name, scores[name], restored.values(name) if name in restored.metrics else None, n_models)
    return found


def _integers(metrics: Tensors, labels: np.ndarray, n_models: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the integers from which metrics follow, by name. Fractions are rounded; they become exceptions."""
    for name, values in metrics.items():
        column = parse_metric(name)
        if column is None:
            continue
        base, k = column.spec.name, column.k or 0
        prefix = name.removesuffix(base.replace("<k>", str(k)))
        models = 1 if column.concatenated else n_models
        if base == "recall_at_<k>" and models > 1:
            yield f"{prefix}found_at_{k}", np.rint(values * models)
        elif base == "precision_at_<k>":
            yield f"{prefix}hits_at_{k}", np.rint(values * k * models)
        elif base == "mean_reciprocal_rank" and models == 1:
            yield f"{prefix}best_rank", np.rint(divided(np.ones(len(values)), values))
        elif base == "r_precision" and (n_relevant := _n_relevant(metrics, prefix, labels)) is not None:
            yield f"{prefix}n_relevant", n_relevant
            yield f"{prefix}hits_at_r", np.rint(values * n_relevant * models)


def _n_relevant(metrics: Tensors, prefix: str, labels: np.ndarray) -> np.ndarray | None:
    """Return R of each query, from the metrics that are relative to k and to R; None without such metrics.

    If no relevant item is among the first k, R is that of another query of the same class.
    """
    ks = sorted(int(name.rpartition("_")[2]) for name in metrics if name.startswith(f"{prefix}retrieved_at_"))
    ks = [k for k in ks if f"{prefix}precision_at_{k}" in metrics]
    if not ks:
        return None
    precision, retrieved = metrics[f"{prefix}precision_at_{ks[-1]}"], metrics[f"{prefix}retrieved_at_{ks[-1]}"]
    found = np.rint(divided(precision * ks[-1], retrieved))
    classes, index = np.unique(labels, return_inverse=True)
    of_class = np.zeros(len(classes))
    np.maximum.at(of_class, index, found)
    return np.where(found > 0, found, of_class[index])


def _exceptions(name: str, values: np.ndarray, restored: np.ndarray | None, n_models: int) -> dict[str, np.ndarray]:
    """Return what has to be stored of a metric: nothing, some queries, or all."""
    is_single = values.dtype.kind == "f" and values.dtype.itemsize < 8
    exact = values.astype(np.float32 if is_single else np.float64)
    if restored is None:
        return {name: exact}
    tolerance = _SINGLE if is_single else _ORDER if n_models > 1 else 0
    index = np.flatnonzero(~(np.abs(restored - exact) <= tolerance))
    if not len(index):
        return {}
    if len(index) * _BYTES_PER_EXCEPTION > exact.nbytes:
        return {name: exact}
    return {name + INDEX: index.astype(np.uint32), name + VALUE: exact[index]}
