"""Find the first ranks of each query with matrix products that are only as precise as necessary.

A block of queries is multiplied with the gallery in float32. If two scores are closer than the error of this product,
`exact_dots` decides their order. Queries with too many such scores, because of a tie across the last rank, are searched again
in float64. The result equals that of exact scores, for any size of the blocks and any order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlbench.evaluation.best_relevant import MAX_COUNTED_QUERIES, Counts, count_best_relevant
from dmlbench.evaluation.exact_dot import SEGMENT, error_bound, exact_dots, float64_dots, is_exact, segment_dots
from dmlbench.evaluation.gallery import Gallery
from dmlbench.evaluation.score_tile import ScoreTile, true_elements
from dmlbench.evaluation.score_tiles import QueryBlock, ScoreTiles
from dmlbench.evaluation.selection import largest_in_order

_MARGIN = 4  # scores listed beyond the last rank, to see where a near tie across it ends


class Search:
    """Searches one gallery, one block of queries at a time in each thread.

    Args:
        gallery: Gallery, on the device of the search.
        depth: Number of ranks K, at most the number of items in the gallery.
        max_threads: Largest number of threads that may search at a time.
    """

    def __init__(self, gallery: Gallery, depth: int, max_threads: int = 1) -> None:
        self.gallery = gallery
        self.depth = depth
        self._n_listed = min(depth + _MARGIN, len(gallery))
        self._tiles = ScoreTiles(gallery, self._n_listed, max_threads)
        self.n_threads = self._tiles.n_threads

    def block_size(self, dtype: torch.dtype) -> int:
        """Return how many queries a block should have; in float64 also the most that it may have.

        Args:
            dtype: dtype of the search.
        """
        return self._tiles.block_size(dtype)

    def first_ranks(self, block: QueryBlock, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
        """Search the gallery for a block of queries.

        Args:
            block: B queries.
            dtype: float32 or float64.

        Returns:
            The fields of a `Ranking`, and whether this dtype was precise enough for each query, bool `(B,)`. float64 always is.
        """
        exact = is_exact(block.bits, self.gallery.bits, self.gallery.dim, dtype)
        tolerance = block.norms * (0.0 if exact else self.gallery.max_norm * error_bound(self.gallery.dim, dtype))
        values, vectors, counted = self._list(block, dtype, tolerance)
        found, resolved, has_hit = self._ranks(block, values, vectors, tolerance, is_float64=dtype == torch.float64)
        is_counted = counted["best_tied"] > 0
        for name, counts in counted.items():
            found[name] = torch.where(has_hit, found[name], counts)
        queries = (resolved & ~has_hit & ~is_counted).nonzero().squeeze(1)
        if len(queries):
            part = block[queries]
            indices = torch.arange(len(queries), device=queries.device)
            scored = (
                (begin, indices[tile.queries], rows) for tile in self._tiles.tiles(part, dtype) for begin, rows in tile.parts()
            )
            for name, counts in count_best_relevant(self._tiles, part, scored, tolerance[queries]).items():
                found[name][queries] = counts
        return found, resolved

    def _list(self, block: QueryBlock, dtype: torch.dtype, tolerance: Tensor) -> tuple[Tensor, Tensor, Counts]:
        """List the best scores of each query, descending, with their vectors, `(B, M)`; and count for some queries.

        In float32 these are the first K scores and a few more; in float64 all that may be among the first K. Queries without
        a relevant item in the list are counted by `count_best_relevant` while their scores are in memory.
        """
        values = torch.full((len(block), self._n_listed), -torch.inf, dtype=dtype, device=block.rows.device)
        vectors = torch.zeros_like(values, dtype=torch.int64)
        counted = {name: torch.zeros_like(block.own_vector) for name in ("best_above", "best_tied", "best_tied_relevant")}
        waiting: list[Tensor] = []  # queries whose scores have been copied to the scratch memory

        def count() -> None:
            if waiting:
                queries = torch.cat(waiting)
                rows = self._tiles.scratch("waiting", len(queries), width, values)
                scored = [(0, torch.arange(len(queries), device=queries.device), rows)]
                counts_of = count_best_relevant(self._tiles, block[queries], scored, tolerance[queries])
                for name, counts in counts_of.items():
                    counted[name][queries] = counts
                waiting.clear()

        for tile in self._tiles.tiles(block, dtype):
            width = tile.scores[:, 0].numel()
            self._merge(tile, values[tile.queries], vectors[tile.queries])
            if self._tiles.is_single and dtype == torch.float32:
                for queries in self._without_hit(block, tile, vectors).split(MAX_COUNTED_QUERIES):
                    if sum(map(len, waiting)) + len(queries) > MAX_COUNTED_QUERIES:
                        count()
                    if len(queries):
                        begin = sum(map(len, waiting))
                        rows = self._tiles.scratch("waiting", MAX_COUNTED_QUERIES, width, values)
                        tile.copy_rows(queries, rows[begin : begin + len(queries)])
                        waiting.append(queries + tile.queries.start)
        count()
        if dtype == torch.float64:
            lowest = values[:, min(self.depth, self._n_listed) - 1] - 2 * tolerance
            tiles = [tile] if self._tiles.is_single else self._tiles.tiles(block, dtype)
            values, vectors = self._all_above(tiles, lowest)
        return values, vectors, counted

    def _without_hit(self, block: QueryBlock, tile: ScoreTile, vectors: Tensor) -> Tensor:
        """Return the queries of a tile whose list has no relevant vector, as indices into the tile.

        A relevant item is overlooked if its vector also belongs to items of other labels, or to the query itself. Its query
        is then counted although that is not necessary.
        """
        listed = vectors[tile.queries, : self.depth]
        is_relevant = self.gallery.label_index[listed] == block.label_indices[tile.queries, None]
        hits = is_relevant & (listed != block.own_vector[tile.queries, None])
        return (~hits.any(1)).nonzero().squeeze(1)

    def _merge(self, tile: ScoreTile, values: Tensor, vectors: Tensor) -> None:
        """Merge the best scores of a tile into the best scores so far, in place."""
        found, which = tile.best(self._n_listed)
        if tile.begin:
            found, column = largest_in_order(torch.cat([values, found], 1), self._n_listed)
            which = torch.cat([vectors, which], 1).gather(1, column)
        values[:, : found.shape[1]] = found
        # Indices beyond the gallery belong to scores of minus infinity.
        vectors[:, : found.shape[1]] = which.clamp(max=len(self.gallery) - 1)

    def _count_relevant(self, block: QueryBlock, scores: Tensor, vectors: Tensor) -> Tensor:
        """Count the relevant items of each listed vector, int64 `(B, M)`."""
        is_own = vectors == block.own_vector[:, None]
        n_relevant = self.gallery.count_items(block.label_indices[:, None].expand_as(vectors), vectors)
        return torch.where(scores > -torch.inf, n_relevant - (is_own & block.own_relevant[:, None]).long(), 0)

    def _all_above(self, tiles: Iterable[ScoreTile], lowest: Tensor) -> tuple[Tensor, Tensor]:
        """List all scores that are at least `lowest`, float64 `(B,)`, descending, with their vectors, `(B, M)`.

        M is the length of the longest list; the others end with minus infinity.
        """
        found_queries, found_values, found_vectors = [], [], []
        for tile in tiles:
            for query, group in true_elements(tile.maxima >= lowest[tile.queries, None]):
                members = tile.members(query, group)
                index, member = (members >= lowest[tile.queries][query, None]).nonzero(as_tuple=True)
                found_queries.append(query[index] + tile.queries.start)
                found_values.append(members[index, member])
                found_vectors.append(tile.vectors(member, group[index]))
        query, value, vector = torch.cat(found_queries), torch.cat(found_values), torch.cat(found_vectors)
        order = value.argsort(descending=True, stable=True)
        order = order[query[order].argsort(stable=True)]
        query, value, vector = query[order], value[order], vector[order]
        lengths = torch.bincount(query, minlength=len(lowest))
        column = torch.arange(len(query), device=query.device) - (lengths.cumsum(0) - lengths)[query]
        shape = (len(lowest), int(lengths.max()))
        values = value.new_full(shape, -torch.inf)
        vectors = vector.new_zeros(shape)
        values[query, column], vectors[query, column] = value, vector
        return values, vectors.clamp(max=len(self.gallery) - 1)

    def _ranks(
        self, block: QueryBlock, values: Tensor, vectors: Tensor, tolerance: Tensor, is_float64: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Compute ranks from the best scores.

        Returns:
            The fields of a `Ranking`; whether the list was long enough, bool `(B,)`; and whether a relevant item is among the
            first K ranks, bool `(B,)`. Without one, the fields of the best relevant item are not valid.
        """
        last = values[:, -1].double()
        scores, vectors = self._resolve(block, values.double(), vectors, tolerance, is_float64)
        is_own = vectors == block.own_vector[:, None]
        n_items = torch.where(scores > -torch.inf, self.gallery.n_items[vectors] - is_own.long(), 0)
        n_relevant = self._count_relevant(block, scores, vectors)

        is_first = pad(scores[:, 1:] != scores[:, :-1], (1, 0), value=True)
        group = is_first.cumsum(1) - 1
        size, relevant = _sum_by_group(group, n_items), _sum_by_group(group, n_relevant)
        above = n_items.cumsum(1) - n_items
        start = torch.where(is_first, above, 0).cummax(1).values

        rank = torch.arange(self.depth, device=values.device).expand(len(block), -1).contiguous()
        total = n_items.sum(1, keepdim=True)
        column = torch.searchsorted(n_items.cumsum(1), rank, right=True).clamp(max=vectors.shape[1] - 1)
        exists = rank < total  # without the query itself, the list may be one shorter than the gallery
        hit_column = torch.where((n_relevant > 0) & (start < self.depth), group, vectors.shape[1]).argmin(1, keepdim=True)
        found = {
            "group_start": torch.where(exists, start.gather(1, column), rank),
            "group_size": torch.where(exists, size.gather(1, column), 1),
            "group_relevant": torch.where(exists, relevant.gather(1, column), 0),
            "best_above": start.gather(1, hit_column).squeeze(1),
            "best_tied": size.gather(1, hit_column).squeeze(1),
            "best_tied_relevant": relevant.gather(1, hit_column).squeeze(1),
        }
        tie_ends = scores.gather(1, column[:, -1:]).squeeze(1) - last > 2 * tolerance
        resolved = tie_ends | (last == -torch.inf) | (vectors.shape[1] >= len(self.gallery)) | is_float64
        return found, resolved, (found["best_tied_relevant"] > 0) & (found["best_above"] < self.depth)

    def _resolve(
        self, block: QueryBlock, scores: Tensor, vectors: Tensor, tolerance: Tensor, is_float64: bool
    ) -> tuple[Tensor, Tensor]:
        """Bring descending scores with errors up to `tolerance` into their exact order. Equal scores are then exact ties."""
        dim, norms = self.gallery.dim, block.norms * self.gallery.max_norm
        closer = tolerance.minimum(norms * error_bound(min(dim, SEGMENT), torch.float32))
        closest = tolerance.minimum(norms * error_bound(dim, torch.float64))
        steps = ((tolerance, segment_dots), (closer, float64_dots), (closest, exact_dots))
        for allowed, dots in steps[2:] if is_float64 else steps:
            near = (scores[:, :-1] - scores[:, 1:] <= 2 * allowed[:, None]) & (scores[:, 1:] > -torch.inf)
            unsure = pad(near, (1, 0)) | pad(near, (0, 1))
            unsure[allowed == 0] = False  # the product is exact
            query, column = unsure.nonzero(as_tuple=True)
            if len(query):
                scores[query, column] = self._tiles.pair_scores(block, query, vectors[query, column], dots)
                scores, by_score = scores.sort(dim=1, descending=True, stable=True)
                vectors = vectors.gather(1, by_score)
        return scores, vectors


def _sum_by_group(group: Tensor, values: Tensor) -> Tensor:
    """Sum the values of each row over the group of each column, int64 `(B, W)`."""
    return torch.zeros_like(values).scatter_add_(1, group, values).gather(1, group)
