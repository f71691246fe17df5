"""The nearest images of one query, in the exact order of their scores. Imports no torch.

One product in float32 finds the candidates: all images whose score may be among the first k, given the error of the product.
Their scores are computed again, correctly rounded, as `evaluation.exact_dot` does. So the order is that of the metrics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dmlbench.errors import UserError
from dmlbench.pictures.saved_embeddings import SavedEmbeddings

_MANY = 4096  # candidates beyond which equal rows are scored only once


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k gallery images with the highest scores for one query, without the query itself.

    Args:
        query_id: Id of the query.
        label: Class of the query.
        ids: int64 `(k,)`, by descending score; equal scores by ascending id.
        labels: int64 `(k,)`.
        scores: float64 `(k,)`, inner products.
        n_relevant: Number R of other gallery images with the label of the query.
        n_tied: Number of images that are not among the first k although their score equals the last one's.
    """

    query_id: int
    label: int
    ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    n_relevant: int
    n_tied: int

    @property
    def relevant(self) -> np.ndarray:
        """Whether each image has the label of the query, bool `(k,)`."""
        return self.labels == self.label


def nearest(embeddings: SavedEmbeddings, query_id: int, k: int) -> Neighbours:
    """Find the nearest images of a query.

    Args:
        embeddings: Embeddings of queries and gallery.
        query_id: Id of an image that has an embedding.
        k: Number of images; fewer are returned if the gallery has fewer.

    Raises:
        UserError: A score is not finite.
    """
    own = embeddings.index[query_id]
    query, label = np.asarray(embeddings.rows[own]), int(embeddings.labels[own])
    searched = embeddings.is_gallery.copy()
    searched[own] = False
    n_relevant = int((searched & (embeddings.labels == label)).sum())
    found, scores = search(embeddings, query, searched, k)
    order = np.lexsort((embeddings.ids[found], -scores))
    found, scores = found[order], scores[order]
    n_tied = int((scores[k:] == scores[k - 1]).sum()) if len(scores) > k else 0
    found, scores = found[:k], scores[:k]
    return Neighbours(query_id, label, embeddings.ids[found], embeddings.labels[found], scores, n_relevant, n_tied)


def search(embeddings: SavedEmbeddings, query: np.ndarray, searched: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find all images whose score is among the k highest, ties across the last rank included.

    Args:
        embeddings: Embeddings of the gallery.
        query: float32 `(D,)`.
        searched: bool `(N,)`, which images are searched.
        k: Number of images, at least 1.

    Returns:
        Indices of rows, int64 `(M,)`, and exact scores, float64 `(M,)`, in no particular order. M is at least k unless fewer
        images are searched; all images that are not returned have lower scores than the k-th of these.

    Raises:
        UserError: A score is not finite.
    """
    rows = embeddings.rows
    with np.errstate(over="ignore", invalid="ignore"):
        approximate = rows @ query
    if not np.isfinite(approximate).all():  # NaN, or norms beyond the range of float32
        approximate = rows.astype(np.float64) @ query.astype(np.float64)
        if not np.isfinite(approximate).all():
            raise UserError("the embeddings contain numbers that are not finite")
    candidates = np.flatnonzero(searched)
    if len(candidates) > k:
        known = approximate[candidates]
        lowest = np.partition(known, -k)[-k]
        candidates = candidates[known >= lowest - 2 * _error(embeddings, query, known.dtype)]
    scores = exact_scores(rows[candidates], query)
    if len(candidates) > k:
        kept = scores >= np.partition(scores, -k)[-k]
        candidates, scores = candidates[kept], scores[kept]
    return candidates, scores


def exact_scores(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Compute the inner product of each row with a query, rounded once.

    Products of float32 numbers are exact in float64, and `math.fsum` rounds their sum once.

    Args:
        rows: float32 `(M, D)`.
        query: float32 `(D,)`.

    Returns:
        float64 `(M,)`.
    """
    if len(rows) > _MANY:  # a collapsed embedding, in which most rows are equal
        distinct, which = np.unique(rows, axis=0, return_inverse=True)
        return exact_scores(distinct, query)[which.reshape(-1)] if len(distinct) < len(rows) else _exact(rows, query)
    return _exact(rows, query)


def _exact(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    wide = query.astype(np.float64)
    return np.array([math.fsum((row.astype(np.float64) * wide).tolist()) for row in rows], dtype=np.float64)


def _error(embeddings: SavedEmbeddings, query: np.ndarray, dtype: np.dtype) -> float:
    """Bound the error of a score in a matrix product; see `evaluation.exact_dot.error_bound`."""
    dim = len(query)
    unit, smallest = (2.0**-24, 2.0**-149) if dtype == np.float32 else (2.0**-53, 2.0**-1074)
    norms = float(np.linalg.norm(query.astype(np.float64))) * embeddings.max_norm
    return (dim + 4) * unit / (1 - (dim + 4) * unit) * norms + dim * smallest
