"""A tile of scores, which are searched through the maxima of groups of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.evaluation.selection import largest, largest_in_order

_MAX_GROUPS = 2**16  # groups of scores that are read at a time


@dataclass(frozen=True, eq=False)
class ScoreTile:
    """Scores of b queries of a block with consecutive vectors of the gallery.

    The vectors are divided into C parts of consecutive vectors, one per matrix product, and each part into N groups of M
    members.

    Args:
        queries: Queries of the block, b of them.
        begin: Index of the first vector.
        end: Index after the last vector.
        scores: float32 or float64 `(C, b, M, N)`. Vector `begin + (c M + m) N + n` is member m of group n of part c. Minus
            infinity if there is no such vector, or if it belongs to the query itself only.
        maxima: `(b, C N)`, largest score of each group.
    """

    queries: slice
    begin: int
    end: int
    scores: Tensor
    maxima: Tensor

    def vectors(self, members: Tensor | int, groups: Tensor) -> Tensor:
        """Return the indices of vectors.

        Args:
            members: Index of the member in its group.
            groups: int64, index of the group, from 0 to C N.
        """
        _, _, size, n_groups = self.scores.shape
        part = groups // n_groups
        return self.begin + (part * (size - 1) + members) * n_groups + groups

    def parts(self) -> Iterator[tuple[int, Tensor]]:
        """Iterate over the parts.

        Yields:
            Index of the first vector, and the scores `(b, n)` of n consecutive vectors.
        """
        width = self.scores.shape[2] * self.scores.shape[3]
        for begin, scores in zip(range(self.begin, self.end, width), self.scores, strict=True):
            yield begin, scores.flatten(1)[:, : self.end - begin]

    def copy_rows(self, queries: Tensor, out: Tensor) -> None:
        """Copy all scores of some queries.

        Args:
            queries: int64 `(n,)`, indices of queries in the tile.
            out: `(n, C M N)`. Column c belongs to vector `begin + c`.
        """
        rows = self.scores.flatten(2).transpose(0, 1)
        torch.index_select(rows, 0, queries, out=out.view(len(queries), *rows.shape[1:]))

    def members(self, queries: Tensor, groups: Tensor) -> Tensor:
        """Read the scores of groups.

        Args:
            queries: int64, indices of queries in the tile.
            groups: int64, indices of groups, in a shape that broadcasts with `queries`.

        Returns:
            Scores of the M members, in the common shape with one more axis.
        """
        _, _, size, n_groups = self.scores.shape
        by_part, by_query, by_member, _ = self.scores.stride()
        first = groups // n_groups * by_part + queries * by_query + groups % n_groups
        index = first[..., None] + by_member * torch.arange(size, device=groups.device)
        flat = self.scores.as_strided((int(self.scores.shape[0]) * by_part,), (1,))
        return flat.index_select(0, index.view(-1)).view(index.shape)

    def best(self, n: int) -> tuple[Tensor, Tensor]:
        """Find the n largest scores of each query, or as many as there are.

        Args:
            n: Number of scores.

        Returns:
            Scores, descending, `(b, n)`, and indices of their vectors, int64 `(b, n)`.
        """
        size = self.scores.shape[2]
        groups = largest(self.maxima, n)
        queries = torch.arange(len(groups), device=groups.device)[:, None]
        members = self.maxima.gather(1, groups) if size == 1 else self.members(queries, groups).flatten(1)
        values, column = largest_in_order(members, n)
        return values, self.vectors(column % size, groups.gather(1, column // size))


def true_elements(chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over the indices of true elements, a limited number at a time.

    Args:
        chosen: bool `(B, N)`.

    Yields:
        Row and column indices, int64.
    """
    query, group = chosen.nonzero(as_tuple=True)
    yield from zip(query.split(_MAX_GROUPS), group.split(_MAX_GROUPS), strict=True)
