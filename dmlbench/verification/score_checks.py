"""Recompute the metrics of a row from the scores of its queries, and refuse scores that no ranking has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dmlbench.results.formatting import metric_label
from dmlbench.results.metric_specs import CONCATENATED, FULL, MACRO, parse_metric
from dmlbench.results.row import Row
from dmlbench.verification.metric_relations import relations
from dmlbench.verification.scores import EXACT, ScoreSource, needed_metrics
from dmlbench.verification.verdict import Finding

if TYPE_CHECKING:
    import numpy as np


def score_findings(row: Row, scores: ScoreSource) -> Iterator[Finding]:
    """Yield what the scores of the queries contradict in a row.

    Args:
        row: A row with results.
        scores: Scores of its queries.

    Raises:
        ValueError: The scores of a metric cannot be read. The message is a clause.
    """
    import numpy as np

    if others := scores.metrics - needed_metrics(row):  # before anything is computed: they may be many
        yield Finding("scores", f"there are scores of {min(others)[:80]!r}, which no column of the row needs")
        return
    ids, labels = scores.ids, scores.labels
    n_queries = len(ids)
    if not n_queries:
        yield Finding("scores", "there is no query")
        return
    in_order = np.sort(ids)
    if (in_order[1:] == in_order[:-1]).any():
        yield Finding("scores", "a query has scores twice")
    if row.get("n_queries") != n_queries:
        yield Finding("n_queries", f"n_queries is {row.get('n_queries')}, but {n_queries:,} queries have scores")
    values = {metric: scores.values(metric) for metric in sorted(scores.metrics)}
    if not values:
        yield from _means(row, labels, (), np.empty((0, n_queries)), 0.0)
        return
    stacked = np.stack(list(values.values()))
    inside = (stacked.min(1) >= -scores.tolerance) & (stacked.max(1) <= 1 + scores.tolerance)  # false for NaN
    if not inside.all():
        yield Finding("scores", f"scores of {metric_label(list(values)[int(inside.argmin())])} are not between 0 and 1")
        return
    tolerance = max(scores.tolerance, EXACT)
    yield from _means(row, labels, tuple(values), stacked, tolerance)
    yield from _impossible(values, tolerance)
    yield from _class_sizes(row, labels, values)


def _means(row: Row, labels: np.ndarray, metrics: Sequence[str], stacked: np.ndarray, tolerance: float) -> Iterator[Finding]:
    """Compare the means over queries, and the means over classes, with the row. Scores are `(M, Q)`."""
    import numpy as np

    order = np.argsort(labels, kind="stable")
    in_order = labels[order]
    starts = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))
    counts = np.diff(np.append(starts, len(labels)))
    of_queries = stacked.mean(1).tolist()
    of_classes = (np.add.reduceat(stacked[:, order], starts, axis=1) / counts).mean(1).tolist()
    known: set[str] = set()
    for metric, mean_of_queries, mean_of_classes in zip(metrics, of_queries, of_classes, strict=True):
        means = {metric: mean_of_queries, _macro(metric): mean_of_classes}
        known.update(means)
        for name, mean in means.items():
            value = row.number(name)
            if value is None and name != metric and name not in row.columns:  # rows of the first versions have no macro means
                continue
            if value is None or abs(value - mean) > tolerance:
                printed = "missing" if value is None else f"{value:.6f}"
                yield Finding("metrics", f"{metric_label(name)} is {printed}, but its scores have the mean {mean:.6f}")
    for name in row.metrics:
        found = parse_metric(name)
        if found is not None and found.spec.kind == "retrieval" and name not in known and row[name] is not None:
            yield Finding("metrics", f"{metric_label(name)} has no scores")


def _macro(metric: str) -> str:
    """Return the name of the mean over classes of a metric; the prefix stands after those of galleries and models."""
    plain = metric.removeprefix(CONCATENATED).removeprefix(FULL)
    return f"{metric[: len(metric) - len(plain)]}{MACRO}{plain}"


def _impossible(values: Mapping[str, np.ndarray], tolerance: float) -> Iterator[Finding]:
    """Yield relations that the scores of a query violate, which hold for each query as for means."""
    import numpy as np

    for relation in relations(tuple(values)):
        total = sum(factor * values[name] for factor, name in relation.terms)
        limit = tolerance * sum(abs(factor) for factor, _ in relation.terms) - relation.constant
        if n_wrong := np.count_nonzero(total > limit):
            yield Finding("scores", f"{relation.message} in {n_wrong:,} queries")


def _class_sizes(row: Row, labels: np.ndarray, values: dict[str, np.ndarray]) -> Iterator[Finding]:
    """Check R, the number of relevant items, which follows from Precision@k and the share of these that was retrieved."""
    import numpy as np

    classes, counts = np.unique(labels, return_counts=True)
    n_classes = row.get("n_test_classes")
    if isinstance(n_classes, int) and len(classes) > n_classes:
        yield Finding("n_test_classes", f"n_test_classes is {n_classes}, but the queries have {len(classes):,} classes")
    sizes = _relevant_items(values)
    if sizes is None:
        return
    known = ~np.isnan(sizes)
    rounded = np.round(sizes[known])
    if (abs(sizes[known] - rounded) > 1e-3 * np.maximum(rounded, 1)).any() or (rounded < 1).any():
        yield Finding("scores", "Precision@k and Retrieved@k do not have a whole number of relevant items")
        return
    of_query = np.searchsorted(classes, labels[known])
    largest, smallest = np.zeros(len(classes)), np.full(len(classes), np.inf)
    np.maximum.at(largest, of_query, rounded)
    np.minimum.at(smallest, of_query, rounded)
    seen = largest > 0
    if (largest[seen] - smallest[seen] > 1).any():  # queries that are in the gallery have one relevant item less
        yield Finding("scores", "queries of one class have different numbers of relevant items")
    n_excluded = row.get("n_excluded")
    if not isinstance(n_classes, int) or not isinstance(n_excluded, int) or row.get("n_gallery") != len(labels) + n_excluded:
        return
    is_own_gallery = seen.any() and (largest[seen] == smallest[seen]).all() and (largest[seen] == counts[seen] - 1).all()
    if is_own_gallery and n_classes != len(classes) + n_excluded:  # each excluded query is alone in its class
        known_classes = f"{len(classes) + n_excluded:,} classes"
        yield Finding("n_test_classes", f"n_test_classes is {n_classes}, but the scores are of {known_classes}")


def _relevant_items(values: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return R of each query, `(Q,)`, NaN if no relevant item is among the first k; None if the metrics do not tell."""
    import numpy as np

    found = None
    for name, retrieved in values.items():
        metric = parse_metric(name)
        if metric is None or metric.spec.name != "retrieved_at_<k>" or metric.full or metric.concatenated:
            continue
        precision = values.get(f"precision_at_{metric.k}")
        if precision is None or metric.k is None:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = np.where(retrieved > 0, precision * metric.k / retrieved, np.nan)
        found = sizes if found is None else np.where(np.isnan(found), sizes, found)
    return found
