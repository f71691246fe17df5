"""K-reciprocal re-ranking: neighbours that are neighbours of each other weigh more than the distance alone.

The neighbourhoods are kept as a sparse matrix and the new distances are made for a few queries at a time, so that memory does
not grow with the square of the items. It reads no labels. The method cuts lists of neighbours, and knows no expected value of
a tie at the cut: there a random order decides that the ids alone determine, so that the rows' order never shows, and a
collapsed embedding scores about chance, not exactly.

Source: Zhong, Zheng, Cao, Li, "Re-ranking person re-identification with k-reciprocal encoding", CVPR 2017; the parameters'
defaults are the authors'.
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
from dmlbench.evaluation.ranking import Ranking, ranking_from_scores

_SCORES_AT_ONCE = 2**22


@dataclass(frozen=True)
class KReciprocal:
    """The parameters of the method.

    Args:
        k1: neighbours that may be reciprocal.
        k2: neighbours whose encodings are averaged; 1 averages none.
        share: lambda, of the plain distance in the new one, from 0 to 1.
    """

    k1: int = 20
    k2: int = 6
    share: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.k2 <= self.k1:
            raise UserError(f"rerank.k1 is {self.k1} and rerank.k2 is {self.k2}; it needs 1 <= k2 <= k1")
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
        rows: float32 `(N, D)`, queries and gallery.
        labels: int64 `(N,)`.
        ids: int64 `(N,)`, each once.
        is_query: bool `(N,)`.
        is_gallery: bool `(N,)`.
        method: its parameters.
        depth: ranks to look at, at least.
        progress: show a bar for what takes more than two seconds.
    """
    order = _random_order(ids)
    rows, labels, ids, is_query, is_gallery = (values[order] for values in (rows, labels, ids, is_query, is_gallery))
    queries, gallery = is_query.nonzero().squeeze(1), is_gallery.nonzero().squeeze(1)

    def blocks() -> Iterator[Tensor]:
        encoded = encodings(rows, method, progress)
        columns = encoded.tocsc()
        size = max(1, _SCORES_AT_ONCE // len(rows))
        bar = tqdm(total=len(queries), desc="re-rank", unit="query", delay=2, leave=False, disable=not progress)
        with bar:
            for part in queries.split(size):
                plain = distances(rows[part], rows)
                common = torch.from_numpy(np.stack([_in_common(encoded, columns, int(query)) for query in part]))
                new = (1 - method.share) * (1 - common / (2 - common)) + method.share * plain
                yield -new[:, gallery]
                bar.update(len(part))

    found = ranking_from_scores(blocks(), labels[queries], labels[gallery], ids[queries], ids[gallery], depth)
    back = order[queries[torch.isin(ids[queries], found.query_ids)]].argsort()  # as they were given
    return replace(found, **{field.name: getattr(found, field.name)[back] for field in fields(found) if field.type == "Tensor"})


def _random_order(ids: Tensor) -> Tensor:
    """An order of items that depends on their ids alone, and looks like none."""
    scrambled = ids.numpy().astype(np.uint64)  # the finaliser of MurmurHash3, which is a bijection
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        scrambled = (scrambled ^ (scrambled >> np.uint64(33))) * np.uint64(factor)
    return torch.from_numpy(np.argsort(scrambled ^ (scrambled >> np.uint64(33)), kind="stable"))


def distances(queries: Tensor, rows: Tensor) -> Tensor:
    """Squared Euclidean distances over the greatest of each query, float64 `(B, N)`, in [0, 1]."""
    squares = _squares(queries, rows)
    return squares / squares.amax(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def _squares(queries: Tensor, rows: Tensor) -> Tensor:
    q, g = queries.double(), rows.double()
    return (q.square().sum(1)[:, None] + g.square().sum(1) - 2 * q @ g.T).clamp(min=0)


def encodings(rows: Tensor, method: KReciprocal, progress: bool = False) -> csr_array:
    """The k-reciprocal encoding of each item, a sparse `(N, N)` whose rows sum to 1."""
    n, wide = len(rows), rows.double().numpy()
    k1, k2, half = min(method.k1 + 1, n), min(method.k2, n), min(round(method.k1 / 2) + 1, n)
    neighbours, greatest = _neighbours(rows, k1, progress)
    mutual, mutual_half = _reciprocal(neighbours), _reciprocal(neighbours[:, :half])
    lines, columns, weights = [], [], []
    for item in tqdm(range(n), desc="encode", unit="item", delay=2, leave=False, disable=not progress):
        members = neighbours[item][mutual[item]]
        within = set(members.tolist())
        kept = set(within)
        for member in members:
            others = neighbours[member, :half][mutual_half[member]].tolist()
            if len(within.intersection(others)) > 2 / 3 * len(others):
                kept.update(others)
        chosen = np.array(sorted(kept))
        squares = np.square(wide[chosen] - wide[item]).sum(1)
        weight = np.exp(-squares / max(greatest[item], np.finfo(float).tiny))
        lines.append(np.full(len(chosen), item))
        columns.append(chosen)
        weights.append(weight / weight.sum())
    encoded = csr_array((np.concatenate(weights), (np.concatenate(lines), np.concatenate(columns))), shape=(n, n))
    if k2 == 1:
        return encoded
    places = np.repeat(np.arange(n), k2), neighbours[:, :k2].ravel()
    return (csr_array((np.full(n * k2, 1 / k2), places), shape=(n, n)) @ encoded).tocsr()


def _neighbours(rows: Tensor, k: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest items of each, itself first, `(N, k)`; and the greatest squared distance of each, `(N,)`."""
    n = len(rows)
    found, greatest = np.empty((n, k), dtype=np.int64), np.empty(n)
    with tqdm(total=n, desc="neighbours", unit="item", delay=2, leave=False, disable=not progress) as bar:
        for lines in torch.arange(n).split(max(1, _SCORES_AT_ONCE // n)):
            squares = _squares(rows[lines], rows)
            greatest[lines] = squares.amax(1).numpy()
            squares[torch.arange(len(lines)), lines] = -1.0
            found[lines] = squares.topk(k, largest=False).indices.numpy()
            bar.update(len(lines))
    return found, greatest


def _reciprocal(neighbours: np.ndarray) -> np.ndarray:
    """Whether an item is a neighbour of its neighbour, bool `(N, k)`."""
    n, k = neighbours.shape
    parts = [np.arange(begin, min(begin + 2**14, n)) for begin in range(0, n, 2**14)]
    return np.concatenate([
        np.stack([(neighbours[neighbours[part, column]] == part[:, None]).any(1) for column in range(k)], 1) for part in parts
    ])  # fmt: skip


def _in_common(encoded: csr_array, columns: csc_array, query: int) -> np.ndarray:
    """The sum over the dimensions of the lesser of two encodings, for one item and each, `(N,)`."""
    begin, end = encoded.indptr[query : query + 2]
    lines, values = [], []
    for dim, weight in zip(encoded.indices[begin:end], encoded.data[begin:end], strict=True):
        of = slice(columns.indptr[dim], columns.indptr[dim + 1])
        lines.append(columns.indices[of])
        values.append(np.minimum(columns.data[of], weight))
    return np.bincount(np.concatenate(lines), np.concatenate(values), minlength=encoded.shape[0])
