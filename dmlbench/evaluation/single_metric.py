"""One metric of some embeddings, for model selection."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from dmlbench.evaluation.clustering import cluster_scores
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.metrics import score
from dmlbench.results.metric_specs import MetricColumn, parse_metric

KINDS = ("retrieval", "clustering")  # of metrics on which models can be selected


def single_metric(embeddings: Embeddings, metric: str, clusters_per_class: int = 1) -> float:
    """Compute one metric as `evaluate` does, without the others. Clusters are seeded, so equal embeddings give equal values.

    Args:
        embeddings: Queries and gallery in memory, ordered by id.
        metric: Name of a metric that `selection_metric` accepts.
        clusters_per_class: Number of k-means clusters per class, for clustering metrics; 0 counts as 1.

    Raises:
        UserError: No query has a relevant item, or there are more clusters than items.
    """
    column = selection_metric(metric)
    assert column is not None  # checked when the configuration is read
    if column.spec.kind == "clustering":
        found = cluster_scores(cast(Tensor, embeddings.rows).cpu(), embeddings.labels, max(1, clusters_per_class))
        return float(found[metric])
    k = column.k or 1
    return score(embeddings.ranking(depth=1 if metric.endswith("map_at_r") else k), (k,))[metric]


def selection_metric(name: str) -> MetricColumn | None:
    """Return the metric with a name if models can be selected on it: a retrieval or clustering metric of one gallery.

    Args:
        name: Name of a column.
    """
    column = parse_metric(name)
    if column is None or column.spec.kind not in KINDS or column.full or column.concatenated:
        return None
    return column
