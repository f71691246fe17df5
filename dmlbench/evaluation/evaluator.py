"""Compute all metrics of a row from embeddings. Used for new runs, saved runs and external embedding files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.evaluation.clustering import MAX_CLUSTERS, cluster_scores
from dmlbench.evaluation.config import Distance, EvaluationConfig
from dmlbench.evaluation.diagnostics import geometry
from dmlbench.evaluation.embedding_rows import validate_and_hash
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.metrics import QueryScores, concatenate_scores, score_queries, summarize
from dmlbench.evaluation.postprocess import beta_normalize, euclidean_vectors, unit_vectors, whiten
from dmlbench.evaluation.queries import draw_queries
from dmlbench.evaluation.ranking import Ranking, rank
from dmlbench.evaluation.refusals import refuse_equal_rows, refuse_impossible, refuse_one_class
from dmlbench.evaluation.reranking import rerank
from dmlbench.results.metric_specs import FULL, parse_metric

__all__ = ["Distance", "EvaluationConfig", "EvaluationResult", "evaluate", "processed", "refuse_impossible", "refuse_one_class"]

_MAX_RANKS = 2**21  # ranks kept at a time over several queries: 16 MiB for each field of a ranking


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Metrics of one set of embeddings.

    Args:
        columns: Columns of a row: metrics, diagnostics and counts.
        scores: Scores of each evaluated query.
    """

    columns: Mapping[str, Scalar]
    scores: QueryScores

    @property
    def per_query(self) -> dict[str, Tensor]:
        """Metric to the scores of the queries, float64 `(Q,)`."""
        return self.scores.values

    @property
    def tensors(self) -> dict[str, Tensor]:
        """`ids` and `labels` of the queries, int64 `(Q,)`, and one vector per metric, for the file beside the row."""
        return {"ids": self.scores.ids, "labels": self.scores.labels, **self.per_query}


def evaluate(embeddings: Embeddings, config: EvaluationConfig, progress: bool = False) -> EvaluationResult:
    """Compute all metrics.

    Args:
        embeddings: Queries, gallery, and possibly training items, which only whitening and the full gallery use.
        config: How to process and evaluate them.
        progress: Show a progress bar for steps of more than two seconds.

    Raises:
        MethodFailure: An embedding is not finite, or all embeddings are equal.
        UserError: Nothing can be retrieved, nothing could be wrong, or the options do not fit the data.
    """
    refuse_one_class(embeddings)
    validate_and_hash("", embeddings.rows)  # before processing, so that errors name rows of the input
    embeddings = draw_queries(embeddings, config.queries, config.query_seed)
    items = processed(embeddings, config)
    refuse_equal_rows(items.rows)
    scores = _score(items, config, progress)
    full = _score_in_full_gallery(embeddings, scores, config, progress) if config.full_gallery else None
    if isinstance(items.rows, Tensor):  # ordered by id: sums, and the start of k-means, depend on the order
        items = items.in_order(items.ids.argsort())
    columns: dict[str, Scalar] = {**summarize(scores), **geometry(items.rows, items.labels)}
    n_classes = len(items.labels.unique())
    clusters = config.clusters_per_class
    if clusters is None:
        clusters = int(n_classes <= MAX_CLUSTERS and isinstance(items.rows, Tensor))
    if clusters:
        whole = items.in_memory()
        columns |= cluster_scores(cast(Tensor, whole.rows).cpu(), whole.labels, clusters, progress=progress)
    if full is None:
        return EvaluationResult(columns, scores)
    columns |= {f"{FULL}{name}": value for name, value in summarize(full).items() if is_full_column(name)}
    assert full.ids.equal(scores.ids)
    values = scores.values | {f"{FULL}{name}": value for name, value in full.values.items()}
    return EvaluationResult(columns, replace(scores, values=values))


def is_full_column(name: str) -> bool:
    """Return whether a full gallery has a column of its own: each retrieval metric, and the size of the gallery.

    Args:
        name: Name of the column without the prefix `full_`.
    """
    return name == "n_gallery" or ((metric := parse_metric(name)) is not None and metric.spec.kind == "retrieval")


def _score(items: Embeddings, config: EvaluationConfig, progress: bool) -> QueryScores:
    return concatenate_scores([score_queries(ranking, config.ks) for ranking in _rankings(items, config, progress)])


def _score_in_full_gallery(
    embeddings: Embeddings, scores: QueryScores, config: EvaluationConfig, progress: bool
) -> QueryScores:
    """Score the same queries in a gallery of all items; those without a relevant item among the test items are left out."""
    items = processed(embeddings, config, everything=True)
    is_query, is_gallery = torch.isin(items.ids, scores.ids), torch.ones_like(items.is_gallery)
    return _score(replace(items, is_query=is_query, is_gallery=is_gallery), config, progress)


def processed(embeddings: Embeddings, config: EvaluationConfig, everything: bool = False) -> Embeddings:
    """Apply the configured transformations: whitening, beta-normalisation, normalisation to unit length.

    Args:
        embeddings: Queries, gallery, and the training items that whitening is fitted on.
        config: Transformations to apply.
        everything: Whether to return the training items too.

    Returns:
        Queries and gallery, as they are searched.

    Raises:
        UserError: Whitening is not possible with these training items.
    """
    items = embeddings if everything else embeddings.evaluated
    if config.whiten is not None:
        training = embeddings.training
        if not len(training):
            raise UserError(f"whiten={config.whiten} needs training embeddings, but there are none")
        items = replace(items, rows=whiten(_tensor(items), _tensor(training), config.whiten))
    if config.beta is not None:
        items = replace(items, rows=beta_normalize(_tensor(items), config.beta))
    if config.distance == "cosine":
        items = replace(items, rows=unit_vectors(items.rows))
    return items


def _rankings(items: Embeddings, config: EvaluationConfig, progress: bool) -> Iterator[Ranking]:
    """Rank the queries in groups of similar R, so that a few large classes do not make all lists long."""
    depth = config.depth
    if config.rerank:
        rows = _tensor(items).cpu()
        yield rerank(rows, items.labels, items.ids, items.is_query, items.is_gallery, config.rerank, depth, progress)
        return
    queries = items.only(items.is_query)
    gallery = queries if items.is_query.equal(items.is_gallery) else items.only(items.is_gallery)
    if config.distance == "euclidean":
        q, g = euclidean_vectors(_tensor(queries), _tensor(gallery))
        queries, gallery = replace(queries, rows=q), replace(gallery, rows=g)
    groups = _groups_of_similar_size(queries.labels, gallery.labels, depth)
    for group in groups:
        part = queries if len(groups) == 1 else queries.in_order(group)
        yield rank(part.rows, gallery.rows, part.labels, gallery.labels, part.ids, gallery.ids, depth, progress=progress)


def _groups_of_similar_size(queries: Tensor, gallery: Tensor, depth: int) -> list[Tensor]:
    """Group queries by their number of relevant items, such that no group has more than `_MAX_RANKS` ranks.

    Args:
        queries: int64 `(Q,)`, labels of the queries.
        gallery: int64 `(G,)`, labels of the gallery.
        depth: Smallest number of ranks of a query.

    Returns:
        Indices of queries, int64, ordered by the number of relevant items.
    """
    known, counts = gallery.unique(return_counts=True)
    index = torch.searchsorted(known, queries).clamp(max=len(known) - 1)
    sizes = torch.where(known[index] == queries, counts[index], 0)
    ascending, order = sizes.sort(stable=True)
    groups, begin = [], 0
    ranks = torch.arange(1, len(order) + 1)
    while begin < len(order):
        n = int((ascending[begin:].clamp(min=depth) * ranks[: len(order) - begin] <= _MAX_RANKS).sum())
        # Queries without positives cannot form a ranking of their own; they join the next group.
        without_positives = int((ascending[begin:] <= 1).sum())
        n = max(1, n, without_positives + 1 if without_positives < len(order) - begin else without_positives)
        groups.append(order[begin : begin + n])
        begin += n
    return groups


def _tensor(items: Embeddings) -> torch.Tensor:
    return cast(Tensor, items.in_memory().rows)
