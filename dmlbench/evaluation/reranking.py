"""k-reciprocal re-ranking: distances are combined with the overlap of k-reciprocal neighbourhoods.

The neighbourhoods are a sparse matrix, and the new distances are computed for a few queries at a time, so that memory does not
grow with the square of the number of items. Labels are not used. If the method truncates a neighbour list inside a group of
tied scores, the tie is broken by a random permutation that depends on the ids only. The order of the rows therefore does not
matter, but a collapsed embedding scores at chance level only approximately.

Source: Zhong, Zheng, Cao, Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017. The default
parameters are the authors'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array
from torch import Tensor
from tqdm import tqdm

from dmlbench.errors import UserError
from dmlbench.evaluation.ranking import Ranking
from dmlbench.evaluation.score_ranking import ranking_from_scores

_MAX_SCORES = 2**22  # distances that are held at a time


@dataclass(frozen=True)
class KReciprocal:
    """Parameters of k-reciprocal re-ranking.

    Args:
        k1: Number of neighbours that may be reciprocal.
        k2: Number of neighbours, including the item itself, whose encodings are averaged. 1 disables averaging.
        share: Weight lambda of the original distance, from 0 to 1.
    """

    k1: int = 20
    k2: int = 6
    share: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.k2 <= self.k1:
            raise UserError(f"rerank.k1 is {self.k1} and rerank.k2 is {self.k2}; they need 1 <= k2 <= k1")
        if not 0 <= self.share <= 1:
            raise UserError(f"rerank.lambda is {self.share}; it must be from 0 to 1")


def rerank(
    rows: Tensor,
    labels: Tensor,
    ids: Tensor,
    is_query: Tensor,
    is_gallery: Tensor,
    method: KReciprocal,
    depth: int = 0,
    progress: bool = False,
) -> Ranking:
    """Rank the gallery for each query by k-reciprocal distance.

    Args:
        rows: float32 `(N, D)`, embeddings of queries and gallery.
        labels: int64 `(N,)`.
        ids: int64 `(N,)`, unique.
        is_query: bool `(N,)`.
        is_gallery: bool `(N,)`.
        method: Parameters.
        depth: Number of ranks to compute; raised to the largest R.
        progress: Show progress bars for steps of more than two seconds.
    """
    order = _random_order(ids)
    rows, labels, ids, is_query, is_gallery = (values[order] for values in (rows, labels, ids, is_query, is_gallery))
    queries, gallery = is_query.nonzero().squeeze(1), is_gallery.nonzero().squeeze(1)

    def blocks() -> Iterator[Tensor]:
        encoded = encodings(rows, method, progress)
        columns = encoded.tocsc()
        size = max(1, _MAX_SCORES // len(rows))
        bar = tqdm(total=len(queries), desc="re-rank", unit="query", delay=2, leave=False, disable=None if progress else True)
        with bar:
            for part in queries.split(size):
                original = distances(rows[part], rows)
                overlap = torch.from_numpy(np.stack([_overlaps(encoded, columns, int(query)) for query in part]))
                new = (1 - method.share) * (1 - overlap / (2 - overlap)) + method.share * original
                yield -new[:, gallery]
                bar.update(len(part))

    found = ranking_from_scores(blocks(), labels[queries], labels[gallery], ids[queries], ids[gallery], depth)
    given_order = order[queries[torch.isin(ids[queries], found.query_ids)]].argsort()
    tensors = {field.name: getattr(found, field.name)[given_order] for field in fields(found) if field.type == "Tensor"}
    return replace(found, **tensors)


def _random_order(ids: Tensor) -> Tensor:
    """Return a permutation of items, int64 `(N,)`, that looks random and depends on the ids only."""
    scrambled = ids.numpy().astype(np.uint64)  # the finaliser of MurmurHash3, which is a bijection
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        scrambled = (scrambled ^ (scrambled >> np.uint64(33))) * np.uint64(factor)
    return torch.from_numpy(np.argsort(scrambled ^ (scrambled >> np.uint64(33)), kind="stable"))


def distances(queries: Tensor, rows: Tensor) -> Tensor:
    """Compute squared Euclidean distances, divided by the largest of each query.

    Args:
        queries: float32 `(B, D)`.
        rows: float32 `(N, D)`.

    Returns:
        float64 `(B, N)`, in [0, 1].
    """
    squares = _squares(queries, rows)
    return squares / squares.amax(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def _squares(queries: Tensor, rows: Tensor) -> Tensor:
    """Return squared Euclidean distances, float64 `(B, N)`."""
    q, g = queries.double(), rows.double()
    return (q.square().sum(1)[:, None] + g.square().sum(1) - 2 * q @ g.T).clamp(min=0)


def encodings(rows: Tensor, method: KReciprocal, progress: bool = False) -> csr_array:
    """Compute the k-reciprocal encoding of each item.

    Args:
        rows: float32 `(N, D)`.
        method: Parameters.
        progress: Show progress bars for steps of more than two seconds.

    Returns:
        Sparse float64 `(N, N)`; its rows sum to 1.
    """
    n, wide = len(rows), rows.double().numpy()
    k1, k2, half = min(method.k1 + 1, n), min(method.k2, n), min(round(method.k1 / 2) + 1, n)
    neighbours, largest = _neighbours(rows, k1, progress)
    mutual, mutual_half = _reciprocal(neighbours), _reciprocal(neighbours[:, :half])
    items, columns, weights = [], [], []
    for item in tqdm(range(n), desc="encode", unit="item", delay=2, leave=False, disable=None if progress else True):
        members = neighbours[item][mutual[item]]
        reciprocal = set(members.tolist())
        kept = set(reciprocal)
        for member in members:
            others = neighbours[member, :half][mutual_half[member]].tolist()
            if len(reciprocal.intersection(others)) > 2 / 3 * len(others):
                kept.update(others)
        chosen = np.array(sorted(kept))
        squares = np.square(wide[chosen] - wide[item]).sum(1)
        weight = np.exp(-squares / max(largest[item], np.finfo(float).tiny))
        items.append(np.full(len(chosen), item))
        columns.append(chosen)
        weights.append(weight / weight.sum())
    encoded = csr_array((np.concatenate(weights), (np.concatenate(items), np.concatenate(columns))), shape=(n, n))
    if k2 == 1:
        return encoded
    indices = np.repeat(np.arange(n), k2), neighbours[:, :k2].ravel()
    return (csr_array((np.full(n * k2, 1 / k2), indices), shape=(n, n)) @ encoded).tocsr()


def _neighbours(rows: Tensor, k: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest items of each item, itself first, `(N, k)`, and its largest squared distance, `(N,)`."""
    n = len(rows)
    found, largest = np.empty((n, k), dtype=np.int64), np.empty(n)
    with tqdm(total=n, desc="neighbours", unit="item", delay=2, leave=False, disable=None if progress else True) as bar:
        for items in torch.arange(n).split(max(1, _MAX_SCORES // n)):
            squares = _squares(rows[items], rows)
            largest[items] = squares.amax(1).numpy()
            squares[torch.arange(len(items)), items] = -1.0
            found[items] = squares.topk(k, largest=False).indices.numpy()
            bar.update(len(items))
    return found, largest


def _reciprocal(neighbours: np.ndarray) -> np.ndarray:
    """Return whether each item is among the neighbours of its neighbour, bool `(N, k)`."""
    n, k = neighbours.shape
    parts = [np.arange(begin, min(begin + 2**14, n)) for begin in range(0, n, 2**14)]
    return np.concatenate([
        np.stack([(neighbours[neighbours[part, column]] == part[:, None]).any(1) for column in range(k)], 1) for part in parts
    ])  # fmt: skip


def _overlaps(encoded: csr_array, columns: csc_array, query: int) -> np.ndarray:
    """Return the overlap of an item's encoding with each other: the sum over dimensions of the minimum, `(N,)`."""
    begin, end = encoded.indptr[query : query + 2]
    items, values = [], []
    for dim, weight in zip(encoded.indices[begin:end], encoded.data[begin:end], strict=True):
        span = slice(columns.indptr[dim], columns.indptr[dim + 1])
        items.append(columns.indices[span])
        values.append(np.minimum(columns.data[span], weight))
    return np.bincount(np.concatenate(items), np.concatenate(values), minlength=encoded.shape[0])
