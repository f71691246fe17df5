"""The first ranks of each query, from matrix products that are no more precise than they must be.

A block of queries is multiplied with the gallery in float32. Where two scores lie nearer to each other than that product
may be off, and only there, `exact_dots` decides. Queries for which too many do (a tie across the last rank) are searched
again in float64. What is found so is what float64 would find, whatever the size of a block and the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlbench.evaluation.exact_dot import exact_dots, float64_dots, is_exact, rounding
from dmlbench.evaluation.gallery import Gallery

# Scores held at once: 32 MiB of float32, or 128 MiB where rows are so long that a product of more queries is the faster one
# by more than its scores, which leave the processor's cache, cost. A piece of the gallery is no wider than 2^16, a block of
# queries than 2^10.
_BLOCK_SCORES = 2**23
_LONG_ROWS = 256
_TILE = 7680  # vectors that such a product takes at a time
_PIECE = 2**16
_MOST_QUERIES = 2**10
_MARGIN = 4  # places beyond the last rank, so that a near tie there is seen to end
_PICKS_AT_ONCE = 2**16  # groups of scores
_COUNTED_AT_ONCE = 64  # queries
_PAIRED = 2**17  # components of pairs of rows


@dataclass(frozen=True, eq=False)
class Block:
    """Some queries: float32 rows `(B, D)`, and for each where its label and its own vector stand in the gallery.

    Args:
        rows: scaled as the gallery is, so that no product leaves float32.
        norms: float64 `(B,)`, of the rows.
        labels: int64 `(B,)`, places among the gallery's labels.
        own: int64 `(B,)`, the vector that stands for the query itself; -1 where it is not in the gallery.
        own_relevant: bool `(B,)`, whether the gallery gives it the query's label.
        bits: see `bits_of`.
    """

    rows: Tensor
    norms: Tensor
    labels: Tensor
    own: Tensor
    own_relevant: Tensor
    bits: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, lines: Tensor | slice) -> Block:
        rows, norms, labels = self.rows[lines], self.norms[lines], self.labels[lines]
        return Block(rows, norms, labels, self.own[lines], self.own_relevant[lines], self.bits)


@dataclass(frozen=True, eq=False)
class Piece:
    """Scores of some queries of a block with consecutive vectors of the gallery, in groups.

    Args:
        lines: of the block, B of them.
        begin: the first vector.
        scores: `(B, M, N)`: vector `begin + m N + n` is member m of group n; minus infinity where there is none.
        maxima: `(B, N)`, of each group.
    """

    lines: slice
    begin: int
    scores: Tensor
    maxima: Tensor

    def vectors(self, members: Tensor | int, groups: Tensor) -> Tensor:
        """Which vectors stand at some places."""
        return self.begin + members * self.scores.shape[2] + groups

    @property
    def rows(self) -> Tensor:
        """The scores as `(B, M N)`: column c is that of vector `begin + c`."""
        return self.scores.view(len(self.scores), -1)

    def best(self, n: int) -> tuple[Tensor, Tensor]:
        """The n greatest scores of each query, or as many as there are, descending, and their vectors."""
        n_queries, size, n_groups = self.scores.shape
        if size == 1:
            values, column = self.maxima.topk(min(n, n_groups))
            return values, self.vectors(0, column)
        groups = self.maxima.topk(min(n, n_groups), sorted=False).indices
        members = self.scores.gather(2, groups[:, None].expand(-1, size, -1)).view(n_queries, -1)
        values, column = members.topk(min(n, members.shape[1]))
        return values, self.vectors(column // groups.shape[1], groups.gather(1, column % groups.shape[1]))


@dataclass(frozen=True, eq=False)
class Target:
    """The best relevant vector of each of B queries.

    Args:
        vector: int64 `(B,)`; the greatest where several tie.
        score: float64 `(B,)`, up to the rounding of float64.
        n_relevant: int64 `(B,)`, relevant items with its score, itself included.
    """

    vector: Tensor
    score: Tensor
    n_relevant: Tensor


class Search:
    """Searches one gallery, block after block.

    Args:
        gallery: on the device of the search.
        depth: K, ranks to fill; at most as many as the gallery has items.
    """

    def __init__(self, gallery: Gallery, depth: int) -> None:
        self.gallery = gallery
        self.depth = depth
        self.n_listed = min(depth + _MARGIN, len(gallery))
        self._single = len(gallery) <= _PIECE
        self._held = gallery.vectors(slice(0, len(gallery))) if self._single else None  # read once
        self._buffers: dict[torch.dtype, Tensor] = {}
        self._rooms: dict[str, Tensor] = {}

    def block_size(self, dtype: torch.dtype) -> int:
        """How many queries a block should have."""
        return _MOST_QUERIES if dtype == torch.float32 else self._rows_at_once(dtype)

    def _rows_at_once(self, dtype: torch.dtype) -> int:
        """How many queries are multiplied at once."""
        n_scores = _BLOCK_SCORES * (4 if self.gallery.dim >= _LONG_ROWS else 1) // (4 if dtype == torch.float64 else 1)
        n = min(_MOST_QUERIES // 2, n_scores // min(_PIECE, len(self.gallery)))
        return n // 32 * 32 or max(1, n)

    def first_ranks(self, block: Block, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
        """The fields of a `Ranking` for some queries, and whether they could be told from this dtype, bool `(B,)`.

        With float64 they always can; a block is then no larger than `block_size`.
        """
        exact = is_exact(block.bits, self.gallery.bits, self.gallery.dim, dtype)
        tolerance = block.norms * (0.0 if exact else self.gallery.norm * rounding(self.gallery.dim, dtype))
        values, vectors, counted = self._list(block, dtype, tolerance)
        found, told, hit = self._order(block, values, vectors, tolerance, complete=dtype == torch.float64)
        known = counted["best_tied"] > 0
        for name, counts in counted.items():
            found[name] = torch.where(hit, found[name], counts)
        lines = (told & ~hit & ~known).nonzero().squeeze(1)
        if len(lines):
            part = block[lines]
            places = torch.arange(len(lines), device=lines.device)
            scored = ((piece.begin, places[piece.lines], piece.rows) for piece in self._pieces(part, dtype))
            for name, counts in self._best_relevant(part, scored, tolerance[lines]).items():
                found[name][lines] = counts
        return found, told

    def _list(self, block: Block, dtype: torch.dtype, tolerance: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The best scores of each query, descending, and their vectors, `(B, M)`; and what `_best_relevant` says of others.

        With float32 these are the first K and a few more; with float64 all that may stand among the first K. For queries
        whose list shows nothing relevant `_best_relevant` is asked at once, while their scores are at hand.
        """
        values = torch.full((len(block), self.n_listed), -torch.inf, dtype=dtype, device=block.rows.device)
        vectors = torch.zeros_like(values, dtype=torch.int64)
        counted = {name: torch.zeros_like(block.own) for name in ("best_above", "best_tied", "best_tied_relevant")}
        waiting: list[Tensor] = []  # queries whose scores lie in the room kept for them

        def count() -> None:
            if waiting:
                lines = torch.cat(waiting)
                scored = [(0, torch.arange(len(lines), device=lines.device), self._room("waiting", len(lines), piece.rows))]
                for name, counts in self._best_relevant(block[lines], scored, tolerance[lines]).items():
                    counted[name][lines] = counts
                waiting.clear()

        last = None
        for piece in self._pieces(block, dtype):
            self._merge(piece, values[piece.lines], vectors[piece.lines])
            if self._single and dtype == torch.float32:
                # What this overlooks, an item that shares its vector, is counted in vain and no more.
                listed = vectors[piece.lines, : self.depth]
                hits = (self.gallery.place[listed] == block.labels[piece.lines, None]) & (
                    listed != block.own[piece.lines, None]
                )
                for some in (~hits.any(1)).nonzero().squeeze(1).split(_COUNTED_AT_ONCE):
                    if sum(map(len, waiting)) + len(some) > _COUNTED_AT_ONCE:
                        count()
                    if len(some):
                        begin = sum(map(len, waiting))
                        room = self._room("waiting", _COUNTED_AT_ONCE, piece.rows)[begin : begin + len(some)]
                        torch.index_select(piece.rows, 0, some, out=room)
                        waiting.append(some + piece.lines.start)
            last = piece
        count()
        if dtype == torch.float64:
            floor = values[:, min(self.depth, self.n_listed) - 1] - 2 * tolerance
            pieces = [last] if self._single and last is not None else self._pieces(block, dtype)
            values, vectors = self._all_above(pieces, floor)
        return values, vectors, counted

    def _room(self, name: str, n: int, like: Tensor) -> Tensor:
        """Memory for n rows of scores, the same each time: to ask the system for it again and again is slow."""
        key = f"{name} {like.dtype}"
        if key not in self._rooms or self._rooms[key].shape[1] != like.shape[1] or len(self._rooms[key]) < n:
            self._rooms[key] = torch.empty(max(n, _COUNTED_AT_ONCE), like.shape[1], dtype=like.dtype, device=like.device)
        return self._rooms[key][:n]

    def _merge(self, piece: Piece, values: Tensor, vectors: Tensor) -> None:
        """Put the best of a piece among the best so far, in place."""
        found, which = piece.best(self.n_listed)
        if piece.begin:
            found, column = torch.cat([values, found], 1).topk(self.n_listed)
            which = torch.cat([vectors, which], 1).gather(1, column)
        values[:, : found.shape[1]] = found
        vectors[:, : found.shape[1]] = which.clamp(max=len(self.gallery) - 1)  # where nothing is, beside minus infinity

    def _relevant(self, block: Block, scores: Tensor, vectors: Tensor) -> Tensor:
        """Relevant items of each listed vector, int64 `(B, M)`."""
        itself = vectors == block.own[:, None]
        n_hits = self.gallery.n_of_label(block.labels[:, None].expand_as(vectors), vectors)
        return torch.where(scores > -torch.inf, n_hits - (itself & block.own_relevant[:, None]).long(), 0)

    def _pieces(self, block: Block, dtype: torch.dtype) -> Iterator[Piece]:
        """The scores of a block, part by part; each overwrites the one before."""
        width = min(_PIECE, len(self.gallery))
        group = group_size(width, self.n_listed)
        n_groups = -(-width // group)
        n_groups += -n_groups % 16
        # A stride that is no multiple of 16 floats slows the product by a third; an even multiple, by some percent.
        # There is one column to spare at least, where a query that is not in the piece strikes out "itself".
        stride = group * n_groups + (16 if group * n_groups % 32 == 0 else 32)
        at_once = min(self._rows_at_once(dtype), len(block))
        if dtype not in self._buffers or len(self._buffers[dtype]) < at_once:
            self._buffers[dtype] = torch.full(
                (at_once, stride), -torch.inf, dtype=dtype, device=block.rows.device
            )  # nothing is ever written beyond `width`
        alone = (block.own >= 0) & (self.gallery.n_items[block.own.clamp(min=0)] == 1)
        for begin in range(0, len(self.gallery), width):
            vectors = self._vectors(begin, min(begin + width, len(self.gallery)))
            own = block.own - begin
            own = torch.where(alone & (own >= 0) & (own < len(vectors)), own, stride - 1)[:, None]
            for first in range(0, len(block), at_once):
                lines = slice(first, min(first + at_once, len(block)))
                buffer = self._buffers[dtype][: lines.stop - lines.start]
                flat = buffer[:, : group * n_groups]
                multiply(block.rows[lines], vectors, out=flat[:, : len(vectors)])
                if len(vectors) < width:
                    flat[:, len(vectors) : width] = -torch.inf
                buffer.scatter_(1, own[lines], -torch.inf)
                scores = flat.view(len(flat), group, n_groups)
                yield Piece(lines, begin, scores, scores.amax(1) if group > 1 else flat)

    def _vectors(self, begin: int, end: int) -> Tensor:
        return self.gallery.vectors(slice(begin, end)) if self._held is None else self._held

    def _all_above(self, pieces: Iterable[Piece], floor: Tensor) -> tuple[Tensor, Tensor]:
        """Every score from `floor` on, float64 `(B,)`, and its vector, `(B, M)`, descending, M that of the longest."""
        lines, values, vectors = [], [], []
        for piece in pieces:
            for line, group in picks(piece.maxima >= floor[piece.lines, None]):
                members = piece.scores[line, :, group]
                at, member = (members >= floor[piece.lines][line, None]).nonzero(as_tuple=True)
                lines.append(line[at] + piece.lines.start)
                values.append(members[at, member])
                vectors.append(piece.vectors(member, group[at]))
        line, value, vector = torch.cat(lines), torch.cat(values), torch.cat(vectors)
        order = value.argsort(descending=True, stable=True)
        order = order[line[order].argsort(stable=True)]
        line, value, vector = line[order], value[order], vector[order]
        lengths = torch.bincount(line, minlength=len(floor))
        column = torch.arange(len(line), device=line.device) - (lengths.cumsum(0) - lengths)[line]
        shape = (len(floor), int(lengths.max()))
        listed = value.new_full(shape, -torch.inf)
        which = vector.new_zeros(shape)
        listed[line, column], which[line, column] = value, vector
        return listed, which.clamp(max=len(self.gallery) - 1)

    def _order(
        self, block: Block, values: Tensor, vectors: Tensor, tolerance: Tensor, complete: bool
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Ranks from a list of the best scores: the fields, whether the list sufficed, and whether it has a hit."""
        last = values[:, -1].double()
        scores, vectors = self._settle(block, values.double(), vectors, tolerance)
        real = scores > -torch.inf
        itself = vectors == block.own[:, None]
        n_items = torch.where(real, self.gallery.n_items[vectors] - itself.long(), 0)
        n_hits = self._relevant(block, scores, vectors)

        first = pad(scores[:, 1:] != scores[:, :-1], (1, 0), value=True)
        group = first.cumsum(1) - 1
        size, hits = _sum_by_group(group, n_items), _sum_by_group(group, n_hits)
        above = n_items.cumsum(1) - n_items
        start = torch.where(first, above, 0).cummax(1).values

        rank = torch.arange(self.depth, device=values.device).expand(len(block), -1).contiguous()
        total = n_items.sum(1, keepdim=True)
        at = torch.searchsorted(n_items.cumsum(1), rank, right=True).clamp(max=vectors.shape[1] - 1)
        there = rank < total  # the query itself was left out, and the list may be one shorter than the gallery
        hit_column = torch.where((n_hits > 0) & (start < self.depth), group, vectors.shape[1]).argmin(1, keepdim=True)
        found = {
            "group_start": torch.where(there, start.gather(1, at), rank),
            "group_size": torch.where(there, size.gather(1, at), 1),
            "group_relevant": torch.where(there, hits.gather(1, at), 0),
            "best_above": start.gather(1, hit_column).squeeze(1),
            "best_tied": size.gather(1, hit_column).squeeze(1),
            "best_tied_relevant": hits.gather(1, hit_column).squeeze(1),
        }
        ends = scores.gather(1, at[:, -1:]).squeeze(1) - last > 2 * tolerance
        told = ends | (last == -torch.inf) | (vectors.shape[1] >= len(self.gallery)) | complete
        return found, told, (found["best_tied_relevant"] > 0) & (found["best_above"] < self.depth)

    def _settle(self, block: Block, scores: Tensor, vectors: Tensor, tolerance: Tensor) -> tuple[Tensor, Tensor]:
        """Put descending scores, off by `tolerance` at most, in their true order; those that remain equal are."""
        closer = tolerance.clamp(max=block.norms * self.gallery.norm * rounding(self.gallery.dim, torch.float64))
        for allowed, dots in ((tolerance, float64_dots), (closer, exact_dots)):
            near = (scores[:, :-1] - scores[:, 1:] <= 2 * allowed[:, None]) & (scores[:, 1:] > -torch.inf)
            unsure = pad(near, (1, 0)) | pad(near, (0, 1))
            unsure[allowed == 0] = False  # then the product is exact
            line, column = unsure.nonzero(as_tuple=True)
            if len(line):
                scores[line, column] = self._of_pairs(dots, block, line, vectors[line, column])
                scores, by_score = scores.sort(dim=1, descending=True, stable=True)
                vectors = vectors.gather(1, by_score)
        return scores, vectors

    def _best_relevant(
        self, block: Block, scored: Iterable[tuple[int, Tensor, Tensor]], tolerance: Tensor
    ) -> dict[str, Tensor]:
        """Where the best relevant item stands, from a count over the gallery: items above, tied, relevant; int64 `(B,)`.

        Args:
            block: the queries.
            scored: all scores of the block in parts: the first vector of a part, which queries, and their scores `(S, W)`.
            tolerance: float64 `(B,)`, of the scores.
        """
        target = self._target(block)
        above, tied = torch.zeros_like(block.own), torch.zeros_like(block.own)
        for begin, lines, rows in scored:
            for some, scores in zip(lines.split(_COUNTED_AT_ONCE), rows.split(_COUNTED_AT_ONCE), strict=True):
                self._count(block, target, begin, some, scores, tolerance, above, tied)
        # The query itself is counted where its vector stands for others too; alone it is masked.
        twin = ((block.own >= 0) & (self.gallery.n_items[block.own.clamp(min=0)] > 1)).nonzero().squeeze(1)
        own, best = (self._of_pairs(exact_dots, block, twin, vector[twin]) for vector in (block.own, target.vector))
        above[twin] -= (own > best).long()
        tied[twin] -= (own == best).long()
        return {"best_above": above, "best_tied": tied, "best_tied_relevant": target.n_relevant}

    def _target(self, block: Block) -> Target:
        """The best relevant vector of each query; every query has one."""
        line, vector, count = self.gallery.of_labels(block.labels)
        count = count - ((vector == block.own[line]) & block.own_relevant[line]).long()
        line, vector, count = line[count > 0], vector[count > 0], count[count > 0]
        score = self._of_pairs(float64_dots, block, line, vector)
        rough = torch.full_like(block.norms, -torch.inf).scatter_reduce(0, line, score, "amax")
        slack = 2 * self.gallery.norm * block.norms * rounding(self.gallery.dim, torch.float64)
        kept = (score >= (rough - slack)[line]).nonzero().squeeze(1)
        line, vector, count, score = line[kept], vector[kept], count[kept], score[kept]
        several = (torch.bincount(line, minlength=len(block))[line] > 1).nonzero().squeeze(1)
        score[several] = self._of_pairs(exact_dots, block, line[several], vector[several])
        best = torch.full_like(block.norms, -torch.inf).scatter_reduce(0, line, score, "amax")
        first = (score == best[line]).nonzero().squeeze(1)
        n_relevant = torch.zeros_like(block.own).index_add(0, line[first], count[first])
        chosen = torch.zeros_like(block.own).scatter_(0, line[first], vector[first])
        return Target(chosen, best, n_relevant)

    def _count(
        self,
        block: Block,
        target: Target,
        begin: int,
        some: Tensor,
        scores: Tensor,
        tolerance: Tensor,
        above: Tensor,
        tied: Tensor,
    ) -> None:
        """Add to `above` and `tied`, in place, the items that score more than the target, and as much.

        Args:
            block: B queries.
            target: theirs.
            begin: the first vector that was scored.
            some: int64 `(S,)`, which queries were.
            scores: `(S, W)`.
            tolerance: float64 `(B,)`.
            above: int64 `(B,)`.
            tied: int64 `(B,)`.
        """
        allowed, best = tolerance[some], target.score[some]
        low, high = ((best + sign * allowed).to(scores.dtype)[:, None] for sign in (-1, 1))
        weights = self._weights(begin, scores.shape[1]).to(scores.dtype)
        # comparisons written as floats, and their sum as a product, are several times as fast as booleans
        room = self._room("compared", len(scores), scores)
        over, least = (
            torch.mv(compare(scores, bound, out=room), weights).long() for compare, bound in ((torch.gt, high), (torch.ge, low))
        )
        above.index_add_(0, some, over)
        n_near = least - over
        vector = target.vector[some]
        here = (vector >= begin) & (vector < begin + _PIECE)
        clear = (allowed == 0) | (n_near == torch.where(here, self.gallery.n_items[vector], 0))
        tied.index_add_(0, some, torch.where(clear, n_near, 0))
        unclear = (~clear).nonzero().squeeze(1)
        if len(unclear):
            near = (scores[unclear] >= low[unclear]) & (scores[unclear] <= high[unclear])
            at, column = near.nonzero(as_tuple=True)
            query, other = some[unclear][at], begin + column
            exact = self._of_pairs(exact_dots, block, query, other)
            goal = self._of_pairs(exact_dots, block, some[unclear], target.vector[some[unclear]])[at]
            items = self.gallery.n_items[other]
            above.index_add_(0, query, torch.where(exact > goal, items, 0))
            tied.index_add_(0, query, torch.where(exact == goal, items, 0))

    def _of_pairs(self, dots: Callable[[Tensor, Tensor], Tensor], block: Block, line: Tensor, vector: Tensor) -> Tensor:
        """The inner products of some pairs of query and vector, float64 `(P,)`, a few at a time: they stay in the cache."""
        found = torch.empty(len(line), dtype=torch.float64, device=line.device)
        if not len(line):
            return found
        size = max(1, _PAIRED // max(1, self.gallery.dim))
        for lines, vectors, out in zip(line.split(size), vector.split(size), found.split(size), strict=True):
            right = self.gallery.vectors(vectors) if self._held is None else self._held.index_select(0, vectors)
            out.copy_(dots(block.rows.index_select(0, lines), right))
        return found

    def _weights(self, begin: int, width: int) -> Tensor:
        """Items of each vector of a piece, int64; 0 beyond the gallery, and of no account beyond the piece."""
        weights = self.gallery.n_items[begin : begin + width]
        return pad(weights, (0, width - len(weights)))


def multiply(rows: Tensor, vectors: Tensor, out: Tensor) -> None:
    """All inner products of float32 rows `(B, D)` and `(V, D)`, computed in the dtype of `out`, `(B, V)`."""
    long = rows.shape[1] >= _LONG_ROWS
    step = _TILE if long or out.dtype == torch.float64 else max(1, len(vectors))
    rows = rows.to(out.dtype)
    for at in range(0, len(vectors), step):
        some = vectors[at : at + step].to(out.dtype)
        torch.mm(rows, some.T, out=out[:, at : at + len(some)])


def group_size(width: int, n_listed: int) -> int:
    """How many scores to take the maximum of first, a power of two: 1 where sorting the scores themselves is faster.

    Of `width / m` maxima the greatest n are chosen, then of their n m members; the sum of both is least at `sqrt(width / n)`.
    """
    size = 2 ** int(math.log2(max(1, width / max(1, n_listed))) / 2)
    return min(32, size) if size >= 4 else 1


def picks(chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The places of the true elements of `(B, N)`, lines and groups, not too many at once."""
    line, group = chosen.nonzero(as_tuple=True)
    yield from zip(line.split(_PICKS_AT_ONCE), group.split(_PICKS_AT_ONCE), strict=True)


def _sum_by_group(group: Tensor, values: Tensor) -> Tensor:
    """The sum of each row's values over the group of each column, int64 `(B, W)`."""
    return torch.zeros_like(values).scatter_add_(1, group, values).gather(1, group)
