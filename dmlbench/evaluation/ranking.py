"""Rank the gallery for each query, ties included. Metrics are functions of this ranking.

Two scores tie if their inner products, each correctly rounded to float64, are equal. Metrics take the expected value of a tie
over random orders. Scores are computed in float32 and checked by exact inner products if necessary (see `knn_search`), so
neither a permutation of the rows nor the size of a chunk changes a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor
from tqdm import tqdm

from dmlbench.evaluation.embedding_rows import Rows, validate_and_hash
from dmlbench.evaluation.gallery import Gallery, scaled, scaling_exponents
from dmlbench.evaluation.knn_search import Search
from dmlbench.evaluation.score_tiles import QueryBlock
from dmlbench.evaluation.threads import map_in_threads

_RANK_FIELDS = ("group_start", "group_size", "group_relevant")  # int64 `(Q, K)` each
_QUERY_FIELDS = ("best_above", "best_tied", "best_tied_relevant")  # int64 `(Q,)` each


@dataclass(frozen=True, eq=False)
class Ranking:
    """Result of a search: the first K ranks of Q evaluated queries. All tensors are on the CPU.

    A tie group is a sequence of ranks with equal scores. Its size and its number of relevant items include items below
    rank K. Without ties, every group has size 1.

    Args:
        query_ids: int64 `(Q,)`, queries with at least one relevant item, in the given order.
        query_labels: int64 `(Q,)`.
        n_relevant: int64 `(Q,)`, R: number of *other* gallery items with the query's label; at least 1.
        group_start: int64 `(Q, K)`, 0-based rank at which the tie group of each rank starts.
        group_size: int64 `(Q, K)`, number of items in the tie group of each rank.
        group_relevant: int64 `(Q, K)`, number of relevant items in the tie group of each rank.
        best_above: int64 `(Q,)`, number of items with a higher score than the best relevant item, which may be below rank K.
        best_tied: int64 `(Q,)`, number of items in the tie group of the best relevant item, including itself.
        best_tied_relevant: int64 `(Q,)`, number of relevant items in that group, including itself.
        n_excluded: Number of queries without another gallery item of their label; they are not evaluated.
        n_gallery: Number of items in the gallery.
    """

    query_ids: Tensor
    query_labels: Tensor
    n_relevant: Tensor
    group_start: Tensor
    group_size: Tensor
    group_relevant: Tensor
    best_above: Tensor
    best_tied: Tensor
    best_tied_relevant: Tensor
    n_excluded: int
    n_gallery: int

    @property
    def n_queries(self) -> int:
        """Number of evaluated queries."""
        return len(self.query_ids)

    @property
    def depth(self) -> int:
        """Number of ranks K; at least the largest R."""
        return self.group_start.shape[1]

    @cached_property
    def probability_of_relevant(self) -> Tensor:
        """Probability that the item at each rank is relevant, float64 `(Q, K)`."""
        return self.group_relevant.double() / self.group_size


def rank(
    queries: Rows,
    gallery: Rows,
    query_labels: Tensor,
    gallery_labels: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    depth: int = 0,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Ranking:
    """Rank the gallery for each query by inner product. The query itself is left out of its results, by its id.

    Args:
        queries: `(Q, D)`, on any device that supports float64; other dtypes than float32 are converted to it.
        gallery: `(G, D)`, at least one item; may contain the queries. The search runs on its device.
        query_labels: int64 `(Q,)`, any values.
        gallery_labels: int64 `(G,)`.
        query_ids: int64 `(Q,)`, unique. A query and a gallery item with the same id are the same image.
        gallery_ids: int64 `(G,)`, unique.
        depth: Number of ranks to compute. It is raised to the largest R, which R-precision and MAP@R need, and limited to the
            size of the gallery.
        chunk_size: Number of queries that are searched at a time. None for the fastest. It does not affect results.
        progress: Show a progress bar for searches of more than two seconds.

    Returns:
        The ranking of the queries that have a relevant item. The others are counted as excluded.

    Raises:
        MethodFailure: An embedding is NaN or infinite. The message gives the first of these rows.
        ValueError: Shapes or lengths do not fit, labels or ids are not int64, an id is not unique, or the gallery is empty.

    >>> x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> labels, ids = torch.tensor([7, 7, 9]), torch.arange(3)
    >>> ranking = rank(x, x, labels, labels, ids, ids)
    >>> ranking.group_relevant.tolist(), ranking.n_excluded
    ([[1], [0]], 1)
    """
    queries, gallery = _as_float32(queries), _as_float32(gallery)
    _check_shapes(queries, gallery)
    device = gallery.device
    query_labels, query_ids = _check_items("query", queries, query_labels, query_ids, device)
    gallery_labels, gallery_ids = _check_items("gallery", gallery, gallery_labels, gallery_ids, device)
    gallery_statistics = validate_and_hash("gallery", gallery)
    statistics = gallery_statistics if queries is gallery else validate_and_hash("query", queries)

    own = own_index(query_ids, gallery_ids)
    searched = Gallery.build(gallery, gallery_labels, gallery_statistics)
    n_relevant = count_relevant(query_labels, gallery_labels, own)
    kept = n_relevant.nonzero().squeeze(1)
    depth = min(max(depth, int(n_relevant.max()) if len(n_relevant) else 0), len(gallery))

    own_vector = torch.where(own >= 0, searched.vector_of_item[own.clamp(min=0)], -1)
    own_relevant = (own >= 0) & (gallery_labels[own.clamp(min=0)] == query_labels)
    label_indices = searched.label_indices(query_labels)

    def make_block(indices: Tensor) -> QueryBlock:
        which = kept[indices]
        rows = queries[which.to(queries.device)].to(device)
        norms = statistics.norms[which.to(queries.device)].to(device)
        exponents = scaling_exponents(norms)
        rows, norms = scaled(rows, exponents), torch.ldexp(norms, -exponents)
        return QueryBlock(rows, norms, label_indices[which], own_vector[which], own_relevant[which], statistics.bits)

    return Ranking(
        query_ids=query_ids[kept].cpu(),
        query_labels=query_labels[kept].cpu(),
        n_relevant=n_relevant[kept].cpu(),
        **_search(searched, make_block, len(kept), depth, chunk_size, progress),
        n_excluded=len(queries) - len(kept),
        n_gallery=len(gallery),
    )


def _search(
    gallery: Gallery, make_block: Callable[[Tensor], QueryBlock], n: int, depth: int, chunk_size: int | None, progress: bool
) -> dict[str, Tensor]:
    """Search for n queries: in float32, then again in float64 if that was not precise enough."""
    device = gallery.first_item.device
    # Blocks are searched in several threads, because most operations of a block are too small to be divided.
    search = Search(gallery, max(depth, 1), torch.get_num_threads() if device.type == "cpu" else 1)
    found = {name: torch.empty(n, depth, dtype=torch.int64) for name in _RANK_FIELDS}
    found |= {name: torch.empty(n, dtype=torch.int64) for name in _QUERY_FIELDS}
    left = torch.arange(n, device=device)
    with (
        full_precision(),
        tqdm(total=n, desc="rank", unit="query", delay=2, leave=False, disable=None if progress else True) as bar,
    ):
        for dtype in (torch.float32, torch.float64):
            unresolved = []
            size = min(chunk_size or max(1, -(-len(left) // search.n_threads)), search.block_size(dtype))
            parts = left.split(size) if len(left) else ()
            results = map_in_threads(partial(_search_block, search, make_block, dtype), parts, search.n_threads)
            for part, (fields, resolved) in zip(parts, results, strict=True):
                for name, values in fields.items():
                    found[name][part.cpu()] = values.cpu()
                unresolved.append(part[~resolved])
                bar.update(int(resolved.sum()))
            left = torch.cat([left[:0], *unresolved])
    return found


def _search_block(
    search: Search, make_block: Callable[[Tensor], QueryBlock], dtype: torch.dtype, queries: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Search for some queries; see `Search.first_ranks`."""
    return search.first_ranks(make_block(queries), dtype)


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 and bfloat16 in matrix products of float32, because the error bound assumes all bits of float32."""
    # torch refuses to read `get_float32_matmul_precision` after a user has chosen a precision in this way.
    products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [one.fp32_precision for one in products]
    for one in products:
        one.fp32_precision = "ieee"
    try:
        yield
    finally:
        for one, precision in zip(products, before, strict=True):
            one.fp32_precision = precision


def _as_float32(rows: Rows) -> Rows:
    return rows.float() if isinstance(rows, Tensor) else rows


def _check_shapes(queries: Rows, gallery: Rows) -> None:
    n_query, n_gallery = len(queries.shape), len(gallery.shape)
    if n_query != 2 or n_gallery != 2:
        raise ValueError(f"embeddings need the shape (N, D), but queries have {n_query} axes and the gallery has {n_gallery}")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} columns but the gallery has {gallery.shape[1]}; they must agree")
    if not len(gallery):
        raise ValueError(f"the gallery is empty, so nothing can be retrieved for {len(queries)} queries")


def _check_items(side: str, embeddings: Rows, labels: Tensor, ids: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Refuse labels and ids that cannot be ranked; return them on the device of the search."""
    for name, values in (("labels", labels), ("ids", ids)):
        if values.shape != embeddings.shape[:1]:
            shape = tuple(values.shape)
            raise ValueError(f"{side}_{name} have the shape {shape}, but there are {len(embeddings)} {side} embeddings")
        if values.dtype != torch.int64:  # float32 would merge labels above 2^24
            raise ValueError(f"{side}_{name} must be int64, not {str(values.dtype).removeprefix('torch.')}")
    distinct, counts = ids.unique(return_counts=True)
    if len(distinct) < len(ids):
        raise ValueError(f"{side}_ids must be unique, but the id {int(distinct[counts > 1][0])} occurs more than once")
    return labels.to(device), ids.to(device)


def own_index(query_ids: Tensor, gallery_ids: Tensor) -> Tensor:
    """Return the index of each query itself in the gallery, int64 `(Q,)`; -1 if the gallery does not contain it.

    Args:
        query_ids: int64 `(Q,)`, unique.
        gallery_ids: int64 `(G,)`, unique.
    """
    ascending, order = gallery_ids.sort()
    index = torch.searchsorted(ascending, query_ids).clamp(max=len(ascending) - 1)
    return torch.where(ascending[index] == query_ids, order[index], -1)


def count_relevant(query_labels: Tensor, gallery_labels: Tensor, own: Tensor) -> Tensor:
    """Return R of each query, int64 `(Q,)`: the number of gallery items with its label, without itself.

    Args:
        query_labels: int64 `(Q,)`.
        gallery_labels: int64 `(G,)`.
        own: int64 `(Q,)`, result of `own_index`.
    """
    known, counts = gallery_labels.unique(return_counts=True)
    index = torch.searchsorted(known, query_labels).clamp(max=len(known) - 1)
    same = torch.where(known[index] == query_labels, counts[index], 0)
    is_own = (own >= 0) & (gallery_labels[own.clamp(min=0)] == query_labels)
    return same - is_own.long()
