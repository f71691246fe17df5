"""Floor 4: the first ranks of each query, from matrix products that are no more precise than they must be.

A block of queries is multiplied with the gallery in float32. Where two scores lie nearer to each other than that product
may be off, and only there, `exact_dots` decides. Queries for which too many do (a tie across the last rank) are searched
again in float64. What is found so is what float64 would find, whatever the size of a block and the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlbench.evaluate.exact import exact_dots, float64_dots, is_exact, rounding
from dmlbench.evaluate.gallery import Gallery

# Scores held at once, 32 MiB of float32; a piece of the gallery is no wider than 2^16, a block of queries than 2^10.
_BLOCK_SCORES = 2**23
_PIECE = 2**16
_MOST_QUERIES = 2**10
_MARGIN = 4  # places beyond the last rank, so that a near tie there is seen to end
_PICKS_AT_ONCE = 2**16  # groups of scores


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

    def __getitem__(self, lines: Tensor) -> Block:
        rows, norms, labels = self.rows[lines], self.norms[lines], self.labels[lines]
        return Block(rows, norms, labels, self.own[lines], self.own_relevant[lines], self.bits)


@dataclass(frozen=True, eq=False)
class Piece:
    """Scores of a block with consecutive vectors of the gallery, in groups.

    Args:
        begin: the first vector.
        scores: `(B, M, N)`: vector `begin + m N + n` is member m of group n; minus infinity where there is none.
        maxima: `(B, N)`, of each group.
    """

    begin: int
    scores: Tensor
    maxima: Tensor

    def vectors(self, members: Tensor | int, groups: Tensor) -> Tensor:
        """Which vectors stand at some places."""
        return self.begin + members * self.scores.shape[2] + groups


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
        self._held: Tensor | None = None  # a gallery of one piece, read once
        self._buffers: dict[torch.dtype, Tensor] = {}

    def block_size(self, dtype: torch.dtype) -> int:
        """How many queries a block should have."""
        share = 1 if dtype == torch.float32 else 4
        return max(1, min(_MOST_QUERIES, _BLOCK_SCORES // share // min(_PIECE, len(self.gallery))))

    def first_ranks(self, block: Block, dtype: torch.dtype) -> tuple[dict[str, Tensor], Tensor]:
        """The fields of a `Ranking` for some queries, and whether they could be told from this dtype, bool `(B,)`.

        With float64 they always can.
        """
        exact = is_exact(block.bits, self.gallery.bits, self.gallery.dim, dtype)
        tolerance = block.norms * (0.0 if exact else self.gallery.norm * rounding(self.gallery.dim, dtype))
        single = len(self.gallery) <= _PIECE
        pieces = list(self._pieces(block, dtype)) if single else None
        values, vectors = self._best(pieces or self._pieces(block, dtype), self.n_listed)
        if dtype == torch.float64:
            floor = values[:, min(self.depth, self.n_listed) - 1] - 2 * tolerance
            values, vectors = self._all_above(pieces or self._pieces(block, dtype), floor)
        found, told, hit = self._order(block, values, vectors, tolerance, complete=dtype == torch.float64)
        lines = (told & ~hit).nonzero().squeeze(1)
        if len(lines):
            part = block[lines]
            again = ((lines, piece) for piece in pieces) if pieces else ((None, piece) for piece in self._pieces(part, dtype))
            for name, counted in self._best_relevant(part, again, tolerance[lines]).items():
                found[name][lines] = counted
        return found, told

    def _pieces(self, block: Block, dtype: torch.dtype) -> Iterator[Piece]:
        """The scores of a block; each piece overwrites the one before."""
        width = min(_PIECE, len(self.gallery))
        group = group_size(width, self.n_listed)
        n_groups = -(-width // group)
        n_groups += -n_groups % 16  # a stride that is no multiple of 16 floats slows the product by a third
        wanted = len(block) * group * n_groups
        if dtype not in self._buffers or len(self._buffers[dtype]) < wanted:
            self._buffers[dtype] = torch.empty(wanted, dtype=dtype, device=block.rows.device)
        flat = self._buffers[dtype][:wanted].view(len(block), group * n_groups)
        alone = (block.own >= 0) & (self.gallery.n_items[block.own.clamp(min=0)] == 1)
        for begin in range(0, len(self.gallery), width):
            end = min(begin + width, len(self.gallery))
            self._multiply(block, begin, end, flat[:, : end - begin])
            flat[:, end - begin :] = -torch.inf
            itself = (alone & (block.own >= begin) & (block.own < end)).nonzero().squeeze(1)
            flat[itself, block.own[itself] - begin] = -torch.inf
            scores = flat.view(len(block), group, n_groups)
            yield Piece(begin, scores, scores.amax(1) if group > 1 else flat)

    def _multiply(self, block: Block, begin: int, end: int, out: Tensor) -> None:
        if out.dtype == torch.float32:
            if len(self.gallery) > _PIECE:
                vectors = self.gallery.vectors(slice(begin, end))
            elif self._held is None:
                vectors = self._held = self.gallery.vectors(slice(begin, end))
            else:
                vectors = self._held
            torch.mm(block.rows, vectors.T, out=out)
            return
        rows = block.rows.double()
        step = max(1, _BLOCK_SCORES // 4 // max(1, self.gallery.dim))
        for at in range(begin, end, step):
            vectors = self.gallery.vectors(slice(at, min(at + step, end))).double()
            torch.mm(rows, vectors.T, out=out[:, at - begin : at - begin + len(vectors)])

    def _best(self, pieces: list[Piece] | Iterator[Piece], n: int) -> tuple[Tensor, Tensor]:
        """The n greatest scores of each query and their vectors, `(B, n)`, descending."""
        values, vectors = None, None
        for piece in pieces:
            n_queries, size, n_groups = piece.scores.shape
            if size == 1:
                found, column = piece.maxima.topk(min(n, n_groups))
                which = piece.vectors(0, column)
            else:
                groups = piece.maxima.topk(min(n, n_groups), sorted=False).indices
                members = piece.scores.gather(2, groups[:, None].expand(-1, size, -1)).view(n_queries, -1)
                found, column = members.topk(min(n, members.shape[1]))
                which = piece.vectors(column // groups.shape[1], groups.gather(1, column % groups.shape[1]))
            if values is None or vectors is None:
                values, vectors = found, which
            else:
                values, column = torch.cat([values, found], 1).topk(min(n, values.shape[1] + found.shape[1]))
                vectors = torch.cat([vectors, which], 1).gather(1, column)
        assert values is not None
        assert vectors is not None
        return values, vectors.clamp(max=len(self.gallery) - 1)

    def _all_above(self, pieces: list[Piece] | Iterator[Piece], floor: Tensor) -> tuple[Tensor, Tensor]:
        """Every score from `floor` on, float64 `(B,)`, and its vector, `(B, M)`, descending, M that of the longest."""
        lines, values, vectors = [], [], []
        for piece in pieces:
            for line, group in picks(piece.maxima >= floor[:, None]):
                members = piece.scores[line, :, group]
                at, member = (members >= floor[line, None]).nonzero(as_tuple=True)
                lines.append(line[at])
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
        n_hits = self.gallery.n_of_label(block.labels[:, None].expand_as(vectors), vectors)
        n_hits = torch.where(real, n_hits - (itself & block.own_relevant[:, None]).long(), 0)

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
                scores[line, column] = dots(block.rows[line], self.gallery.vectors(vectors[line, column]))
                scores, by_score = scores.sort(dim=1, descending=True, stable=True)
                vectors = vectors.gather(1, by_score)
        return scores, vectors

    def _best_relevant(
        self, block: Block, pieces: Iterator[tuple[Tensor | None, Piece]], tolerance: Tensor
    ) -> dict[str, Tensor]:
        """Where the best relevant item stands, for queries whose list does not reach it: items above, tied, relevant."""
        line, vector, count = self.gallery.of_labels(block.labels)
        count = count - ((vector == block.own[line]) & block.own_relevant[line]).long()
        line, vector, count = line[count > 0], vector[count > 0], count[count > 0]
        line, vector, count, score = self._best_of(block, line, vector, count)
        best = torch.full_like(block.norms, -torch.inf).scatter_reduce(0, line, score, "amax")
        relevant = torch.zeros_like(block.own).index_add(0, line, torch.where(score == best[line], count, 0))

        above, tied = torch.zeros_like(relevant), torch.zeros_like(relevant)
        for lines, piece in pieces:
            self._count(block, lines, piece, best, tolerance, above, tied)
        # The query itself is counted where its vector stands for others too; alone it is masked.
        twin = ((block.own >= 0) & (self.gallery.n_items[block.own.clamp(min=0)] > 1)).nonzero().squeeze(1)
        own = exact_dots(block.rows[twin], self.gallery.vectors(block.own[twin]))
        above[twin] -= (own > best[twin]).long()
        tied[twin] -= (own == best[twin]).long()
        return {"best_above": above, "best_tied": tied, "best_tied_relevant": relevant}

    def _best_of(self, block: Block, line: Tensor, vector: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of some pairs of query and vector those that may be the query's best, with their exact scores."""
        size = max(1, _BLOCK_SCORES // 8 // max(1, self.gallery.dim))
        rough = [
            (block.rows[line[at : at + size]] * self.gallery.vectors(vector[at : at + size])).sum(1).double()
            for at in range(0, len(line), size)
        ]
        estimate = torch.cat(rough)
        best = torch.full_like(block.norms, -torch.inf).scatter_reduce(0, line, estimate, "amax")
        slack = 2 * self.gallery.norm * block.norms * rounding(self.gallery.dim, torch.float32)
        kept = estimate >= (best - slack)[line]
        line, vector, count = line[kept], vector[kept], count[kept]
        exact = [
            exact_dots(block.rows[line[at : at + size]], self.gallery.vectors(vector[at : at + size]))
            for at in range(0, len(line), size)
        ]
        return line, vector, count, torch.cat(exact)

    def _count(
        self,
        block: Block,
        lines: Tensor | None,
        piece: Piece,
        best: Tensor,
        tolerance: Tensor,
        above: Tensor,
        tied: Tensor,
    ) -> None:
        """Add to `above` and `tied`, in place, the items of a piece with a score greater than `best` and equal to it.

        Args:
            block: the queries, B of them.
            lines: int64 `(B,)`, the lines of the piece that are theirs; None for all.
            piece: of the gallery.
            best: float64 `(B,)`.
            tolerance: float64 `(B,)`.
            above: int64 `(B,)`.
            tied: int64 `(B,)`.
        """
        low, high = ((best + sign * tolerance).to(piece.maxima.dtype) for sign in (-1, 1))
        maxima = piece.maxima if lines is None else piece.maxima[lines]
        padded = self._weights(piece)
        for line, group in picks(maxima >= low[:, None]):
            members = piece.scores[line if lines is None else lines[line], :, group]
            weight = padded[:, group].T
            over = torch.gt(members, high[line, None], out=torch.empty_like(members))  # as floats: thrice as fast
            above.index_add_(0, line, (over * weight).sum(1, dtype=torch.float64).long())
            at, member = ((members >= low[line, None]) & (over == 0)).nonzero(as_tuple=True)
            pair, vector = line[at], piece.vectors(member, group[at])
            score = members[at, member].double()
            doubtful = (tolerance[pair] > 0).nonzero().squeeze(1)
            score[doubtful] = exact_dots(block.rows[pair[doubtful]], self.gallery.vectors(vector[doubtful]))
            items = self.gallery.n_items[vector]
            above.index_add_(0, pair, torch.where(score > best[pair], items, 0))
            tied.index_add_(0, pair, torch.where(score == best[pair], items, 0))

    def _weights(self, piece: Piece) -> Tensor:
        """Items of each vector of a piece, as its scores are laid out, `(M, N)`."""
        _, size, n_groups = piece.scores.shape
        weights = self.gallery.n_items[piece.begin : piece.begin + size * n_groups]
        return pad(weights, (0, size * n_groups - len(weights))).view(size, n_groups).to(piece.scores.dtype)


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
