"""Compute all metrics of a row from embeddings. Used for new runs, saved runs and external embedding files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor

from dmlbench.config.schema import Scalar
from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation.clustering import MAX_CLUSTERS, cluster_scores
from dmlbench.evaluation.diagnostics import geometry
from dmlbench.evaluation.embedding_rows import Rows, validate_and_hash
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.metrics import PRECISION_DEPTH, QueryScores, concatenate_scores, score_queries, summarize
from dmlbench.evaluation.postprocess import beta_normalize, euclidean_vectors, unit_vectors, whiten
from dmlbench.evaluation.ranking import Ranking, rank
from dmlbench.evaluation.reranking import KReciprocal, rerank

_MAX_RANKS = 2**21  # ranks kept at a time over several queries: 16 MiB for each field of a ranking
_ROWS_COMPARED = 4096  # rows read at a time to find a second value

Distance = Literal["inner_product", "cosine", "euclidean"]


@dataclass(frozen=True)
class EvaluationConfig:
    """How embeddings are processed and evaluated.

    Args:
        ks: Values of k for Recall@k, Precision@k and Retrieved@k.
        clusters_per_class: Number of k-means clusters per class. 0 disables clustering; None means 1, or 0 above
            `MAX_CLUSTERS` classes.
        distance: What orders the gallery. The inner product of unit vectors is the cosine similarity.
        whiten: Dimensions that PCA whitening keeps. None disables whitening.
        beta: Weight of beta-normalisation. None disables it.
        rerank: k-reciprocal re-ranking, or None.
        all_ks: Whether to compute Precision@k and Retrieved@k for every k, which needs lists of max(ks) neighbours. Otherwise,
            they are computed for k up to `PRECISION_DEPTH`, or up to R. True for values of k that the user chose.
    """

    ks: tuple[int, ...]
    clusters_per_class: int | None = None
    distance: Distance = "inner_product"
    whiten: int | None = None
    beta: float | None = None
    rerank: KReciprocal | None = None
    all_ks: bool = False

    @property
    def depth(self) -> int:
        """Number of neighbours that the metrics need. Recall@k needs no list, and MAP@R raises the number to R."""
        return max((k for k in self.ks if self.all_ks or k <= PRECISION_DEPTH), default=1)

    @property
    def columns(self) -> dict[str, Scalar]:
        """Columns of a row that describe how it was evaluated. Disabled transformations have no column."""
        columns: dict[str, Scalar] = {"evaluation_recall_at": str(list(self.ks)), "evaluation_distance": self.distance}
        if self.clusters_per_class is not None:
            columns["evaluation_clusters"] = self.clusters_per_class
        if self.whiten is not None:
            columns["evaluation_whiten"] = self.whiten
        if self.beta is not None:
            columns["evaluation_beta"] = self.beta
        if self.rerank:
            columns["evaluation_rerank"] = "k_reciprocal"
            k1, k2, share = self.rerank.k1, self.rerank.k2, self.rerank.share
            columns |= {"evaluation_rerank_k1": k1, "evaluation_rerank_k2": k2, "evaluation_rerank_lambda": share}
        return columns


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
        embeddings: Queries, gallery, and possibly training items, which only whitening uses.
        config: How to process and evaluate them.
        progress: Show a progress bar for steps of more than two seconds.

    Raises:
        MethodFailure: An embedding is not finite, or all embeddings are equal.
        UserError: Nothing can be retrieved, nothing could be wrong, or the options do not fit the data.
    """
    refuse_one_class(embeddings)
    validate_and_hash("", embeddings.rows)  # before processing, so that errors name rows of the input
    items = processed(embeddings, config)
    _refuse_collapse(items.rows)
    scores = concatenate_scores([score_queries(ranking, config.ks) for ranking in _rankings(items, config, progress)])
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
    return EvaluationResult(columns, scores)


def refuse_impossible(embeddings: Embeddings, config: EvaluationConfig, path: str = "") -> None:
    """Refuse evaluations whose metrics would be meaningless.

    Args:
        embeddings: Embeddings to evaluate.
        config: How to evaluate them.
        path: File or directory of the embeddings, for the message; empty if there is none.

    Raises:
        UserError: There is only one class, or k is larger than the gallery and all values of k have to be computed.
    """
    refuse_one_class(embeddings, path)
    size, k = int(embeddings.is_gallery.sum()), max(config.ks)
    gallery = f"{path} has a gallery of {size:,} items" if path else f"the gallery has {size:,} items"
    if config.all_ks and k > size:
        raise UserError(f"ks={k}: {gallery}; k can be at most that")
    if config.all_ks and k == size and not (embeddings.is_query & ~embeddings.is_gallery).any():
        raise UserError(f"ks={k}: {gallery}, including the query itself; k can be at most {size - 1:,}")


def refuse_one_class(embeddings: Embeddings, path: str = "") -> None:
    """Refuse a gallery with one class, because no result could be wrong: every method would have 100 %.

    Args:
        embeddings: Embeddings to evaluate.
        path: File or directory of the embeddings, for the message; empty if there is none.

    Raises:
        UserError: All items of the gallery are of one class.
    """
    classes = embeddings.labels[embeddings.is_gallery].unique()
    if len(classes) < 2:
        evaluated = embeddings.labels[embeddings.is_query | embeddings.is_gallery]
        every = len(evaluated.unique()) < 2
        items = f"{len(evaluated):,} embeddings" if every else f"{int(embeddings.is_gallery.sum()):,} items of the gallery"
        raise UserError(
            f"{path}{': ' * bool(path)}all {items} are of class {int(classes[0])}; retrieval needs two classes"
            f"{', because otherwise no result could be wrong' * (not every)}"
        )


def _refuse_collapse(rows: Rows) -> None:
    """Refuse embeddings that are all equal; different ones are recognised in the first part."""
    for start in range(0, len(rows), _ROWS_COMPARED):
        if not (rows[start : start + _ROWS_COMPARED] == rows[:1]).all():
            return
    value = "zero" if not rows[:1].any() else "equal"
    raise MethodFailure(f"the embedding collapsed: all {len(rows):,} embeddings are {value}, so nothing can be retrieved")


def processed(embeddings: Embeddings, config: EvaluationConfig) -> Embeddings:
    """Apply the configured transformations: whitening, beta-normalisation, normalisation to unit length.

    Args:
        embeddings: Queries, gallery, and the training items that whitening is fitted on.
        config: Transformations to apply.

    Returns:
        Queries and gallery, as they are searched.

    Raises:
        UserError: Whitening is not possible with these training items.
    """
    items = embeddings.evaluated
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
        rows = _tensor(items)
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
