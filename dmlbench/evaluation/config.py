"""How embeddings are processed and evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmlbench.config.schema import Scalar
from dmlbench.evaluation.metrics import PRECISION_DEPTH
from dmlbench.evaluation.reranking import KReciprocal

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
        queries: Number of queries, drawn at random from those with a relevant item in the gallery. None for all.
        query_seed: Seed of the draw. It does not depend on the method, so all methods have the same queries.
        full_gallery: Also evaluate in a gallery of all items, with the training items, as metrics with the prefix `full_`.
        all_ks: Whether to compute Precision@k and Retrieved@k for every k, which needs lists of max(ks) neighbours. Otherwise,
            they are computed for k up to `PRECISION_DEPTH`, or up to R. True for values of k that the user chose.
    """

    ks: tuple[int, ...]
    clusters_per_class: int | None = None
    distance: Distance = "inner_product"
    whiten: int | None = None
    beta: float | None = None
    rerank: KReciprocal | None = None
    queries: int | None = None
    query_seed: int = 0
    full_gallery: bool = False
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
        if self.queries is not None:
            columns["evaluation_queries"] = self.queries or "all"
        if self.full_gallery:
            columns["evaluation_gallery"] = "full"
        if self.whiten is not None:
            columns["evaluation_whiten"] = self.whiten
        if self.beta is not None:
            columns["evaluation_beta"] = self.beta
        if self.rerank:
            columns["evaluation_rerank"] = "k_reciprocal"
            k1, k2, share = self.rerank.k1, self.rerank.k2, self.rerank.share
            columns |= {"evaluation_rerank_k1": k1, "evaluation_rerank_k2": k2, "evaluation_rerank_lambda": share}
        return columns
