"""Scores of queries with a gallery, computed in tiles that fit into memory.

A tile holds the inner products of some queries with consecutive vectors of the gallery, from one matrix product. Its scores
have the error of a matrix product, see `exact_dot.error_bound`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.evaluation.exact_dot import float64_dots
from dmlbench.evaluation.gallery import Gallery

# Scores held at a time: 32 MiB of float32, or 128 MiB if rows are long. A product of more queries is then faster, by more than
# it costs that its scores leave the processor's cache.
_MAX_SCORES = 2**23
_LONG_ROW = 256  # dimensions
_MATMUL_VECTORS = 7680  # vectors per matrix product, if rows are long
_TILE_VECTORS = 2**16  # largest width of a tile
_MAX_QUERIES = 2**10  # largest number of queries in a block
_MAX_GROUPS = 2**16  # groups of scores that are read at a time
_MAX_PAIR_COMPONENTS = 2**17  # components of pairs of rows that are multiplied at a time
_MIN_SCRATCH_ROWS = 64

DotFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class QueryBlock:
    """B queries that are searched together.

    Args:
        rows: float32 `(B, D)`, scaled as the gallery is, so that products stay in the range of float32.
        norms: float64 `(B,)`, norms of the rows.
        label_indices: int64 `(B,)`, indices into the labels of the gallery.
        own_vector: int64 `(B,)`, vector of the query itself in the gallery; -1 if the gallery does not contain it.
        own_relevant: bool `(B,)`, whether the gallery contains the query itself, with the query's label.
        bits: See `required_bits`.
    """

    rows: Tensor
    norms: Tensor
    label_indices: Tensor
    own_vector: Tensor
    own_relevant: Tensor
    bits: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, queries: Tensor | slice) -> QueryBlock:
        rows, norms, label_indices = self.rows[queries], self.norms[queries], self.label_indices[queries]
        return QueryBlock(rows, norms, label_indices, self.own_vector[queries], self.own_relevant[queries], self.bits)


@dataclass(frozen=True, eq=False)
class ScoreTile:
    """Scores of b queries of a block with consecutive vectors of the gallery, in N groups of M members.

    Args:
        queries: Queries of the block, b of them.
        begin: Index of the first vector.
        scores: float32 or float64 `(b, M, N)`. Vector `begin + m N + n` is member m of group n. Minus infinity if there is
            no such vector, or if it belongs to the query itself only.
        maxima: `(b, N)`, largest score of each group.
    """

    queries: slice
    begin: int
    scores: Tensor
    maxima: Tensor

    def vectors(self, members: Tensor | int, groups: Tensor) -> Tensor:
        """Return the indices of vectors.

        Args:
            members: Index of the member in its group.
            groups: int64, index of the group.
        """
        return self.begin + members * self.scores.shape[2] + groups

    @property
    def rows(self) -> Tensor:
        """The scores as `(b, M N)`. Column c belongs to vector `begin + c`."""
        return self.scores.view(len(self.scores), -1)

    def best(self, n: int) -> tuple[Tensor, Tensor]:
        """Find the n largest scores of each query, or as many as there are.

        Args:
            n: Number of scores.

        Returns:
            Scores, descending, `(b, n)`, and indices of their vectors, int64 `(b, n)`.
        """
        n_queries, size, n_groups = self.scores.shape
        if size == 1:
            values, column = self.maxima.topk(min(n, n_groups))
            return values, self.vectors(0, column)
        groups = self.maxima.topk(min(n, n_groups), sorted=False).indices
        members = self.scores.gather(2, groups[:, None].expand(-1, size, -1)).view(n_queries, -1)
        values, column = members.topk(min(n, members.shape[1]))
        return values, self.vectors(column // groups.shape[1], groups.gather(1, column % groups.shape[1]))


class ScoreTiles:
    """Computes the tiles of one gallery, and exact scores of selected pairs.

    Args:
        gallery: Gallery, on the device of the search.
        n_listed: Number of best scores that are read from each tile; it determines the size of the groups.
    """

    def __init__(self, gallery: Gallery, n_listed: int) -> None:
        self.gallery = gallery
        self.width = min(_TILE_VECTORS, len(gallery))
        self.is_single = len(gallery) <= _TILE_VECTORS
        self._n_listed = n_listed
        self._in_memory = gallery.vectors(slice(0, len(gallery))) if self.is_single else None  # read once
        self._buffers: dict[torch.dtype, Tensor] = {}
        self._scratch: dict[str, Tensor] = {}

    def block_size(self, dtype: torch.dtype) -> int:
        """Return how many queries a block should have.

        Args:
            dtype: dtype of the scores.
        """
        return _MAX_QUERIES if dtype == torch.float32 else self._queries_per_tile(dtype)

    def _queries_per_tile(self, dtype: torch.dtype) -> int:
        n_scores = _MAX_SCORES * (4 if self.gallery.dim >= _LONG_ROW else 1) // (4 if dtype == torch.float64 else 1)
        n = min(_MAX_QUERIES // 2, n_scores // min(_TILE_VECTORS, len(self.gallery)))
        return n // 32 * 32 or max(1, n)

    def tiles(self, block: QueryBlock, dtype: torch.dtype) -> Iterator[ScoreTile]:
        """Compute all scores of a block.

        Args:
            block: Queries.
            dtype: dtype of the matrix product.

        Yields:
            The tiles. Each overwrites the previous one.
        """
        width = self.width
        group = group_size(width, self._n_listed)
        n_groups = -(-width // group)
        n_groups += -n_groups % 16
        # A stride that is not a multiple of 16 floats makes the product slower by a third; an even multiple, by a few percent.
        # At least one column is spare. A query that is not in the tile writes its minus infinity there.
        stride = group * n_groups + (16 if group * n_groups % 32 == 0 else 32)
        at_once = min(self._queries_per_tile(dtype), len(block))
        if dtype not in self._buffers or len(self._buffers[dtype]) < at_once:
            # Columns from `width` on are never written.
            self._buffers[dtype] = torch.full((at_once, stride), -torch.inf, dtype=dtype, device=block.rows.device)
        alone = (block.own_vector >= 0) & (self.gallery.n_items[block.own_vector.clamp(min=0)] == 1)
        for begin in range(0, len(self.gallery), width):
            vectors = self._vectors(begin, min(begin + width, len(self.gallery)))
            own = block.own_vector - begin
            own = torch.where(alone & (own >= 0) & (own < len(vectors)), own, stride - 1)[:, None]
            for first in range(0, len(block), at_once):
                queries = slice(first, min(first + at_once, len(block)))
                buffer = self._buffers[dtype][: queries.stop - queries.start]
                flat = buffer[:, : group * n_groups]
                multiply(block.rows[queries], vectors, out=flat[:, : len(vectors)])
                if len(vectors) < width:
                    flat[:, len(vectors) : width] = -torch.inf
                buffer.scatter_(1, own[queries], -torch.inf)
                scores = flat.view(len(flat), group, n_groups)
                yield ScoreTile(queries, begin, scores, scores.amax(1) if group > 1 else flat)

    def _vectors(self, begin: int, end: int) -> Tensor:
        return self.gallery.vectors(slice(begin, end)) if self._in_memory is None else self._in_memory

    def pair_scores(self, block: QueryBlock, queries: Tensor, vectors: Tensor, dots: DotFunction = float64_dots) -> Tensor:
        """Compute the scores of selected pairs, few enough at a time that they stay in the cache.

        Args:
            block: Queries.
            queries: int64 `(P,)`, indices of queries in the block.
            vectors: int64 `(P,)`, indices of vectors.
            dots: `float64_dots` or `exact_dots`.

        Returns:
            float64 `(P,)`.
        """
        found = torch.empty(len(queries), dtype=torch.float64, device=queries.device)
        if not len(queries):
            return found
        size = max(1, _MAX_PAIR_COMPONENTS // max(1, self.gallery.dim))
        for left, right, out in zip(queries.split(size), vectors.split(size), found.split(size), strict=True):
            rows = self.gallery.vectors(right) if self._in_memory is None else self._in_memory.index_select(0, right)
            out.copy_(dots(block.rows.index_select(0, left), rows))
        return found

    def scratch(self, name: str, n: int, like: Tensor) -> Tensor:
        """Return memory for n rows of scores. It is reused, because allocating it again and again is slow.

        Args:
            name: Purpose; each has its own memory.
            n: Number of rows.
            like: Tensor `(., W)` whose width, dtype and device the memory has.
        """
        key = f"{name} {like.dtype}"
        if key not in self._scratch or self._scratch[key].shape[1] != like.shape[1] or len(self._scratch[key]) < n:
            self._scratch[key] = torch.empty(max(n, _MIN_SCRATCH_ROWS), like.shape[1], dtype=like.dtype, device=like.device)
        return self._scratch[key][:n]


def multiply(rows: Tensor, vectors: Tensor, out: Tensor) -> None:
    """Compute all inner products of two matrices, in the dtype of `out`.

    Args:
        rows: float32 `(B, D)`.
        vectors: float32 `(V, D)`.
        out: Result, float32 or float64 `(B, V)`.
    """
    is_long = rows.shape[1] >= _LONG_ROW
    step = _MATMUL_VECTORS if is_long or out.dtype == torch.float64 else max(1, len(vectors))
    rows = rows.to(out.dtype)
    for begin in range(0, len(vectors), step):
        chunk = vectors[begin : begin + step].to(out.dtype)
        torch.mm(rows, chunk.T, out=out[:, begin : begin + len(chunk)])


def group_size(width: int, n_listed: int) -> int:
    """Choose the size of groups of scores, of which the maxima are compared first.

    The n largest of `width / m` maxima are selected, then the n largest of their n m members. The sum of both steps is
    smallest for `m = sqrt(width / n)`.

    Args:
        width: Number of scores of a query.
        n_listed: Number n of best scores to find.

    Returns:
        A power of two up to 32; 1 if selecting from the scores directly is faster.
    """
    size = 2 ** int(math.log2(max(1, width / max(1, n_listed))) / 2)
    return min(32, size) if size >= 4 else 1


def true_elements(chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over the indices of true elements, a limited number at a time.

    Args:
        chosen: bool `(B, N)`.

    Yields:
        Row and column indices, int64.
    """
    query, group = chosen.nonzero(as_tuple=True)
    yield from zip(query.split(_MAX_GROUPS), group.split(_MAX_GROUPS), strict=True)
