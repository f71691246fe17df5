"""Scores of queries with a gallery, computed in tiles that fit into memory.

A tile holds the inner products of some queries with consecutive vectors of the gallery. Its scores have the error of a matrix
product, see `exact_dot.error_bound`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.evaluation.gallery import Gallery
from dmlbench.evaluation.score_tile import ScoreTile

_MAX_SCORES = 2**25  # scores held at a time: 128 MiB of float32
_TILE_VECTORS = 2**16  # largest width of a tile
# Vectors per matrix product on a CPU. The scores of one product are contiguous and stay in the cache until the maxima of
# their groups are computed.
_PRODUCT_VECTORS = 2**10
_MAX_QUERIES = 2**10  # largest number of queries in a block
_MIN_QUERIES_PER_THREAD = 2**8  # a matrix product with fewer is slower, so that fewer threads share the memory
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


class ScoreTiles:
    """Computes the tiles of one gallery, and exact scores of selected pairs. Each thread has memory of its own for them.

    Args:
        gallery: Gallery, on the device of the search.
        n_listed: Number of best scores that are read from each tile; it determines the size of the groups.
        max_threads: Largest number of threads that may compute tiles at a time.
    """

    def __init__(self, gallery: Gallery, n_listed: int, max_threads: int = 1) -> None:
        self.gallery = gallery
        self.width = min(_TILE_VECTORS, len(gallery))
        self.is_single = len(gallery) <= _TILE_VECTORS
        self._n_listed = n_listed
        self._in_memory = gallery.vectors(slice(0, len(gallery))) if self.is_single else None  # read once
        self.n_threads = max(1, min(max_threads, _MAX_SCORES // (self.width * _MIN_QUERIES_PER_THREAD)))
        self._memory = threading.local()

    def block_size(self, dtype: torch.dtype) -> int:
        """Return how many queries a block should have.

        Args:
            dtype: dtype of the scores.
        """
        return _MAX_QUERIES if dtype == torch.float32 else self._queries_per_tile(dtype)

    def _queries_per_tile(self, dtype: torch.dtype) -> int:
        n_scores = _MAX_SCORES // (4 if dtype == torch.float64 else 1)
        n = min(_MAX_QUERIES // 2, n_scores // self.n_threads // self.width)
        return n // 32 * 32 or max(1, n)

    def tiles(self, block: QueryBlock, dtype: torch.dtype) -> Iterator[ScoreTile]:
        """Compute all scores of a block.

        Args:
            block: Queries.
            dtype: dtype of the matrix product.

        Yields:
            The tiles. Each overwrites the previous one.
        """
        alone = (block.own_vector >= 0) & (self.gallery.n_items[block.own_vector.clamp(min=0)] == 1)
        at_once = min(self._queries_per_tile(dtype), len(block))
        for begin in range(0, len(self.gallery), self.width):
            end = min(begin + self.width, len(self.gallery))
            vectors = self._vectors(begin, end)
            for first in range(0, len(block), at_once):
                queries = slice(first, min(first + at_once, len(block)))
                tile = self._multiply(block.rows[queries], vectors, queries, begin, dtype)
                self._leave_out(tile, torch.where(alone, block.own_vector, -1)[queries])
                yield tile

    def _multiply(self, rows: Tensor, vectors: Tensor, queries: slice, begin: int, dtype: torch.dtype) -> ScoreTile:
        """Compute the scores of a tile and the maxima of its groups, with one matrix product per part."""
        group = group_size(self.width, self._n_listed)
        part = min(self.width, _PRODUCT_VECTORS if rows.device.type == "cpu" else _TILE_VECTORS)
        n_groups = -(-part // group)
        n_groups += -n_groups % 16
        part = group * n_groups
        buffer = self._buffer(len(rows), -(-self.width // part), part, dtype, rows.device)
        buffer = buffer[: -(-len(vectors) // part), : len(rows)]
        scores = buffer[:, :, :part].unflatten(2, (group, n_groups))
        maxima = torch.empty(len(rows), len(scores) * n_groups, dtype=dtype, device=rows.device)
        rows = rows.to(dtype)
        for number, some in enumerate(vectors.split(part)):
            torch.mm(rows, some.to(dtype).T, out=buffer[number, :, : len(some)])
            if len(some) < part:
                buffer[number, :, len(some) : part] = -torch.inf
            torch.amax(scores[number], 1, out=maxima[:, number * n_groups : (number + 1) * n_groups])
        return ScoreTile(queries, begin, begin + len(vectors), scores, maxima)

    def _buffer(self, n_rows: int, n_parts: int, part: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return memory `(n_parts, n_rows or more, part or more)`; it is reused."""
        # A stride that is not a multiple of 16 floats makes the product slower by a third; an even multiple, by a few percent.
        shape = n_parts, n_rows, part + (16 if part % 32 == 0 else 32)
        buffers = self._own_memory("buffers")
        buffer = buffers.get(str(dtype))
        if buffer is None or buffer.shape[1] < n_rows:
            buffers.pop(str(dtype), None)  # frees the memory before the new memory is allocated
            buffer = buffers[str(dtype)] = torch.empty(shape, dtype=dtype, device=device)
        return buffer

    def _own_memory(self, purpose: str) -> dict[str, Tensor]:
        """Return the tensors of this thread."""
        found: dict[str, Tensor] = self._memory.__dict__.setdefault(purpose, {})
        return found

    def _leave_out(self, tile: ScoreTile, own: Tensor) -> None:
        """Set the scores of the queries with themselves to minus infinity.

        Args:
            tile: Tile; changed in place.
            own: int64 `(b,)`, vector of each query; -1 if it stays.
        """
        query = ((own >= tile.begin) & (own < tile.end)).nonzero().squeeze(1)
        _, _, size, n_groups = tile.scores.shape
        position = own[query] - tile.begin
        part, column = position // (size * n_groups), position % (size * n_groups)
        member, group = column // n_groups, column % n_groups
        tile.scores[part, query, member, group] = -torch.inf
        group = part * n_groups + group
        tile.maxima[query, group] = tile.members(query, group).amax(1)

    def _vectors(self, begin: int, end: int) -> Tensor:
        return self.gallery.vectors(slice(begin, end)) if self._in_memory is None else self._in_memory

    def pair_scores(self, block: QueryBlock, queries: Tensor, vectors: Tensor, dots: DotFunction) -> Tensor:
        """Compute the scores of selected pairs, few enough at a time that they stay in the cache.

        Args:
            block: Queries.
            queries: int64 `(P,)`, indices of queries in the block.
            vectors: int64 `(P,)`, indices of vectors.
            dots: `segment_dots`, `float64_dots` or `exact_dots`.

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

    def scratch(self, name: str, n: int, width: int, like: Tensor) -> Tensor:
        """Return memory for n rows of scores. It is reused, because allocating it again and again is slow.

        Args:
            name: Purpose; each has its own memory.
            n: Number of rows.
            width: Number of columns.
            like: Tensor whose dtype and device the memory has.
        """
        size = max(n, _MIN_SCRATCH_ROWS) * width
        key, scratch = f"{name} {like.dtype}", self._own_memory("scratch")
        if key not in scratch or len(scratch[key]) < size:
            scratch[key] = torch.empty(size, dtype=like.dtype, device=like.device)
        return scratch[key][: n * width].view(n, width)


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
