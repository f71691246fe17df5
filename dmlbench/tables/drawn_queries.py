"""Intervals of results on drawn queries, which vary with the seed and with the queries.

If a protocol draws its queries at random, another draw would give other numbers, so an interval over seeds alone would be too
narrow. All seeds have the same queries. The score of query q with seed s is taken as

    score[s, q] = mean + seed[s] + query[q] + residual[s, q],

and the variance of the mean is estimated without bias from the mean squares of this two-way layout. The queries count as a
random sample of a large population, of which the test images are another sample.

Source: Searle, Casella and McCulloch, Variance components, 1992, section 4.5; degrees of freedom: Satterthwaite, An approximate
distribution of estimates of variance components, Biometrics Bulletin 1946.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dmlbench.results import run_files
from dmlbench.results.formatting import metric_column
from dmlbench.results.query_scores import read_query_scores
from dmlbench.results.row import Row
from dmlbench.tables.confidence import CONFIDENCE

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = 1e-6  # largest difference between a metric and the mean of its scores, which are saved in single precision


def drawn_queries(row: Row) -> int | None:
    """Return the number of queries that were drawn at random for a row; None if all queries were evaluated.

    Args:
        row: Result row. The settings of `dmlbench evaluate` replace those of its protocol.
    """
    value = row.get("evaluation_queries", row.get("protocol_evaluation_queries"))
    return value if isinstance(value, int) else None


def has_query_interval(metric: str) -> bool:
    """Return whether an interval over queries is possible: the metric is a mean over queries.

    Args:
        metric: Name of the metric.
    """
    return metric_column(metric).is_per_query


def query_notes(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Return what a table has to say about galleries and intervals of its metrics, one sentence each, without a full stop.

    Args:
        rows: All result rows of the table.
        metrics: Printed metrics.
    """
    found, columns = [], [metric_column(metric) for metric in metrics]
    sizes = sorted({size for row in rows if isinstance(size := row.get("full_n_gallery"), int)})
    if sizes and any(column.full for column in columns):
        counts = " or ".join(f"{size:,}" for size in sizes)
        found.append(
            f"full: the gallery contains training and test images ({counts} items); in other columns, it contains test images"
        )
    without = [column.label for column in columns if not column.is_per_query]
    if without and any(drawn_queries(row) is not None for row in rows):
        found.append(f"The intervals of {', '.join(without)} are over seeds only, because they are not means over queries")
    return found


def query_interval(rows: Sequence[Row], metric: str) -> tuple[float, float] | None:
    """Compute the mean of a metric and its interval over seeds and queries, from the scores beside the rows.

    Args:
        rows: Result rows of one method, one per seed.
        metric: Name of a metric with scores of each query.

    Returns:
        Mean and half width of the 95 % interval, as fractions; None if the scores are missing, do not match the rows, or were
        computed on different queries.
    """
    import numpy as np

    found: list[tuple[np.ndarray, np.ndarray]] = []
    for row in rows:
        scores = None if row.folder is None else read_query_scores(row.folder / run_files.PER_QUERY, metric)
        expected = row.number(metric)
        if scores is None or expected is None or len(scores.ids) < 2:
            return None
        order = np.argsort(scores.ids, kind="stable")
        ids, values = scores.ids[order], scores.values[order].astype(np.float64)
        if found and not np.array_equal(found[0][0], ids):
            return None
        if not abs(float(values.mean()) - expected) <= TOLERANCE:
            return None
        found.append((ids, values))
    return two_way_interval(np.stack([values for _, values in found]))


def two_way_interval(scores: np.ndarray) -> tuple[float, float]:
    """Compute the mean of some scores and the half width of its 95 % interval over both seeds and queries.

    Args:
        scores: float64 `(S, Q)`, the score of each seed and query; at least two queries. With one seed, the interval is over
            queries only.

    Returns:
        Mean and half width.
    """
    from scipy.special import stdtrit

    (n_seeds, n_queries), mean = scores.shape, float(scores.mean())
    by_query, by_seed = scores.mean(0), scores.mean(1)
    parts = [(float(by_query.var(ddof=1)) / n_queries, n_queries - 1)]
    variance, degrees_of_freedom = parts[0]
    if n_seeds > 1:
        residuals = scores - by_query - by_seed[:, None] + mean
        n_residuals = (n_seeds - 1) * (n_queries - 1)
        parts.append((float(by_seed.var(ddof=1)) / n_seeds, n_seeds - 1))
        residual = float((residuals**2).sum()) / n_residuals / scores.size  # both parts above contain it
        variance, degrees_of_freedom = max(parts)
        if (total := parts[0][0] + parts[1][0] - residual) > variance:  # otherwise, a component is estimated below zero
            squares = sum(part**2 / df for part, df in (*parts, (residual, n_residuals)))
            variance, degrees_of_freedom = total, total**2 / squares
    return mean, float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
