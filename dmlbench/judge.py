"""Floor 4.5: embeddings to the numbers of a row: the one way in which a new run, a saved one and a stranger's are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluate.clustering import MOST_CLUSTERS, cluster_scores
from dmlbench.evaluate.diagnostics import diagnose
from dmlbench.evaluate.embeddings import Embeddings
from dmlbench.evaluate.gallery import survey
from dmlbench.evaluate.metrics import PRECISION_DEPTH, Scored, scored, summary, together
from dmlbench.evaluate.postprocess import beta_normalised, by_cosine, by_euclid, whitened
from dmlbench.evaluate.ranking import Ranking, rank
from dmlbench.evaluate.reranking import KReciprocal, reranked
from dmlbench.rows import Scalar

_RANKS_AT_ONCE = 2**21  # kept of some queries: 16 MiB for each thing that is known of a rank

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
        scored: what each evaluated query scored.
    """

    columns: Mapping[str, Scalar]
    scored: Scored

    @property
    def per_query(self) -> dict[str, Tensor]:
        """Metric to float64 `(Q,)`."""
        return self.scored.values

    @property
    def tensors(self) -> dict[str, Tensor]:
        """For a file beside the row: `ids`, `labels`, and a vector a metric."""
        return {"ids": self.scored.ids, "labels": self.scored.labels, **self.per_query}


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
    found = together([scored(ranking, how.ks) for ranking in _rankings(items, how, depth, progress)])
    if isinstance(items.rows, Tensor):  # in an order of their own: sums, and what starts k-means, depend on it
        items = items.in_order(items.ids.argsort())
    columns: dict[str, Scalar] = {**summary(found), **diagnose(items.rows, items.labels)}
    n_classes = len(items.labels.unique())
    clusters = how.clusters
    if clusters is None:
        clusters = int(n_classes <= MOST_CLUSTERS and isinstance(items.rows, Tensor))
    if clusters:
        whole = items.in_memory()
        columns |= cluster_scores(cast(Tensor, whole.rows).cpu(), whole.labels, clusters, progress=progress)
    return Judgement(columns, found)


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


def _rankings(items: Embeddings, how: Judging, depth: int, progress: bool) -> Iterator[Ranking]:
    """The queries in parts, each of which has about the same R: a few large classes shall not make all lists long."""
    if how.rerank:
        rows = _tensor(items)
        yield reranked(rows, items.labels, items.ids, items.is_query, items.is_gallery, how.rerank, depth, progress)
        return
    queries = items.only(items.is_query)
    gallery = queries if items.is_query.equal(items.is_gallery) else items.only(items.is_gallery)
    if how.distance == "euclidean":
        q, g = by_euclid(_tensor(queries), _tensor(gallery))
        queries, gallery = replace(queries, rows=q), replace(gallery, rows=g)
    parts = _of_like_size(queries.labels, gallery.labels)
    for part in parts:
        some = queries if len(parts) == 1 else queries.in_order(part)
        yield rank(some.rows, gallery.rows, some.labels, gallery.labels, some.ids, gallery.ids, depth, progress=progress)


def _of_like_size(queries: Tensor, gallery: Tensor) -> list[Tensor]:
    """Places of queries, those with the most relevant items last, in parts that have so many ranks at most.

    Args:
        queries: int64 `(Q,)`, their labels.
        gallery: int64 `(G,)`, likewise.
    """
    known, counts = gallery.unique(return_counts=True)
    place = torch.searchsorted(known, queries).clamp(max=len(known) - 1)
    sizes = torch.where(known[place] == queries, counts[place], 0)
    ascending, order = sizes.sort(stable=True)
    parts, begin = [], 0
    ranks = torch.arange(1, len(order) + 1)
    while begin < len(order):
        n = int((ascending[begin:] * ranks[: len(order) - begin] <= _RANKS_AT_ONCE).sum())
        # alone they would find nothing relevant, which is no ranking: they go with the next
        lonely = int((ascending[begin:] <= 1).sum())
        n = max(1, n, lonely + 1 if lonely < len(order) - begin else lonely)
        parts.append(order[begin : begin + n])
        begin += n
    return parts


def _tensor(items: Embeddings) -> torch.Tensor:
    return cast(Tensor, items.in_memory().rows)
