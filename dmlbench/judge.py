"""Floor 4.5: embeddings to the numbers of a row: the one way in which a new run, a saved one and a stranger's are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluate.clustering import MOST_CLUSTERS, cluster_scores
from dmlbench.evaluate.diagnostics import diagnose
from dmlbench.evaluate.embeddings import Embeddings
from dmlbench.evaluate.gallery import survey
from dmlbench.evaluate.metrics import PRECISION_DEPTH, per_query, summary
from dmlbench.evaluate.postprocess import beta_normalised, by_cosine, by_euclid, whitened
from dmlbench.evaluate.ranking import Ranking, rank
from dmlbench.evaluate.reranking import KReciprocal, reranked
from dmlbench.rows import Scalar

Distance = Literal["inner_product", "cosine", "euclidean"]


@dataclass(frozen=True)
class Judging:
    """What is done with embeddings before they are scored, and how they are.

    Args:
        ks: of Recall@k, and of what goes with it.
        clusters: a class, of k-means; 0 for none; None for one, where there are not too many classes.
        distance: what orders the gallery; the inner product of unit vectors is the cosine.
        whiten: dimensions that PCA whitening keeps; None for none.
        beta: of beta-normalisation; None for none.
        rerank: k-reciprocal re-ranking, or None.
    """

    ks: tuple[int, ...]
    clusters: int | None = None
    distance: Distance = "inner_product"
    whiten: int | None = None
    beta: float | None = None
    rerank: KReciprocal | None = None

    @property
    def columns(self) -> dict[str, Scalar]:
        """All that decides a number, as columns of a row that scores again; what was not done has none."""
        found: dict[str, Scalar] = {"evaluation_recall_at": str(list(self.ks)), "evaluation_distance": self.distance}
        if self.clusters is not None:
            found["evaluation_clusters"] = self.clusters
        if self.whiten is not None:
            found["evaluation_whiten"] = self.whiten
        if self.beta is not None:
            found["evaluation_beta"] = self.beta
        if self.rerank:
            found["evaluation_rerank"] = "k_reciprocal"
            k1, k2, share = self.rerank.k1, self.rerank.k2, self.rerank.share
            found |= {"evaluation_rerank_k1": k1, "evaluation_rerank_k2": k2, "evaluation_rerank_lambda": share}
        return found


@dataclass(frozen=True, eq=False)
class Judgement:
    """What was found.

    Args:
        columns: of a row.
        per_query: metric to float64 `(Q,)`, for the queries evaluated.
        ranking: which queries these are.
    """

    columns: Mapping[str, Scalar]
    per_query: Mapping[str, Tensor]
    ranking: Ranking

    @property
    def tensors(self) -> dict[str, Tensor]:
        """For a file beside the row: `ids`, `labels`, and a vector a metric."""
        return {"ids": self.ranking.query_ids, "labels": self.ranking.query_labels, **self.per_query}


def judge(embeddings: Embeddings, how: Judging, progress: bool = False) -> Judgement:
    """Score embeddings.

    Args:
        embeddings: training rows among them are used by what is fitted on training data alone.
        how: what to do.
        progress: show a bar for what takes more than two seconds.

    Raises:
        MethodFailure: an embedding is NaN or infinite.
        UserError: nothing can be retrieved, or the options do not fit the data.
    """
    survey("", embeddings.rows)  # before anything is made of them, so that the rows named are those of the file
    items = processed(embeddings, how)
    depth = max((k for k in how.ks if k <= PRECISION_DEPTH), default=1)
    ranking = _ranking(items, how, depth, progress)
    values = per_query(ranking, how.ks)
    if isinstance(items.rows, Tensor):  # in an order of their own: sums, and what starts k-means, depend on it
        items = items.in_order(items.ids.argsort())
    columns: dict[str, Scalar] = {**summary(ranking, values), **diagnose(items.rows, items.labels)}
    n_classes = len(items.labels.unique())
    clusters = how.clusters
    if clusters is None:
        clusters = int(n_classes <= MOST_CLUSTERS and isinstance(items.rows, Tensor))
    if clusters:
        whole = items.in_memory()
        columns |= cluster_scores(cast(Tensor, whole.rows).cpu(), whole.labels, clusters, progress=progress)
    return Judgement(columns, values, ranking)


def processed(embeddings: Embeddings, how: Judging) -> Embeddings:
    """Queries and gallery as they are searched."""
    items = embeddings.judged
    if how.whiten is not None:
        training = embeddings.training
        if not len(training):
            raise UserError(f"whiten={how.whiten} is fitted on training embeddings, and there are none among these")
        rows = whitened(_tensor(items), _tensor(training), how.whiten)
        items = replace(items, rows=rows)
    if how.beta is not None:
        items = replace(items, rows=beta_normalised(_tensor(items), how.beta))
    if how.distance == "cosine":
        items = replace(items, rows=by_cosine(items.rows))
    return items


def _ranking(items: Embeddings, how: Judging, depth: int, progress: bool) -> Ranking:
    if how.rerank:
        rows = _tensor(items)
        return reranked(rows, items.labels, items.ids, items.is_query, items.is_gallery, how.rerank, depth, progress)
    if how.distance != "euclidean":
        return items.ranking(depth, progress)
    queries, gallery = items.only(items.is_query), items.only(items.is_gallery)
    q, g = by_euclid(_tensor(queries), _tensor(gallery))
    return rank(q, g, queries.labels, gallery.labels, queries.ids, gallery.ids, depth, progress=progress)


def _tensor(items: Embeddings) -> torch.Tensor:
    return cast(Tensor, items.in_memory().rows)
