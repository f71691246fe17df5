"""The position of the best relevant item of a query, which may be far below the first ranks.

It is not searched for by sorting. The scores of all relevant vectors are computed, and the items of the gallery with a larger
or an equal score than the best of them are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlbench.evaluation.exact_dot import error_bound, exact_dots, float64_dots
from dmlbench.evaluation.score_tiles import QueryBlock, ScoreTiles

MAX_COUNTED_QUERIES = 32  # queries whose scores are copied before they are compared
_MAX_COUNTED_SCORES = 2**19  # scores that are compared at a time, but at least those of `MAX_COUNTED_QUERIES`

Counts = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Target:
    """The best relevant vector of each of B queries.

    Args:
        vector: int64 `(B,)`; the largest index if several vectors tie.
        score: float64 `(B,)`, up to the rounding of float64.
        n_relevant: int64 `(B,)`, number of relevant items with this score.
    """

    vector: Tensor
    score: Tensor
    n_relevant: Tensor


def count_best_relevant(
    tiles: ScoreTiles, block: QueryBlock, scored: Iterable[tuple[int, Tensor, Tensor]], tolerance: Tensor
) -> Counts:
    """Count the items above the best relevant item of each query, and those that tie with it.

    Args:
        tiles: Scores of the gallery.
        block: B queries, each with a relevant item.
        scored: All scores of the block in parts: index of the first vector, indices of the queries in the block,
            int64 `(S,)`, and their scores `(S, W)`.
        tolerance: float64 `(B,)`, largest error of a score.

    Returns:
        `best_above`, `best_tied` and `best_tied_relevant` of a `Ranking`, int64 `(B,)` each.
    """
    target = _find_target(tiles, block)
    above, tied = torch.zeros_like(block.own_vector), torch.zeros_like(block.own_vector)
    for begin, queries, rows in scored:
        size = max(MAX_COUNTED_QUERIES, _MAX_COUNTED_SCORES // rows.shape[1])
        for part, scores in zip(queries.split(size), rows.split(size), strict=True):
            _count(tiles, block, target, begin, part, scores, tolerance, above, tied)
    # The query itself has been counted if its vector belongs to other items, too. Otherwise its score is minus infinity.
    shared = ((block.own_vector >= 0) & (tiles.gallery.n_items[block.own_vector.clamp(min=0)] > 1)).nonzero().squeeze(1)
    own, best = (tiles.pair_scores(block, shared, vector[shared], exact_dots) for vector in (block.own_vector, target.vector))
    above[shared] -= (own > best).long()
    tied[shared] -= (own == best).long()
    return {"best_above": above, "best_tied": tied, "best_tied_relevant": target.n_relevant}


def _find_target(tiles: ScoreTiles, block: QueryBlock) -> _Target:
    """Find the best relevant vector of each query."""
    gallery = tiles.gallery
    query, vector, count = gallery.vectors_with_labels(block.label_indices)
    count = count - ((vector == block.own_vector[query]) & block.own_relevant[query]).long()
    query, vector, count = query[count > 0], vector[count > 0], count[count > 0]
    score = tiles.pair_scores(block, query, vector, float64_dots)
    rough = torch.full_like(block.norms, -torch.inf).scatter_reduce(0, query, score, "amax")
    slack = 2 * gallery.max_norm * block.norms * error_bound(gallery.dim, torch.float64)
    kept = (score >= (rough - slack)[query]).nonzero().squeeze(1)
    query, vector, count, score = query[kept], vector[kept], count[kept], score[kept]
    several = (torch.bincount(query, minlength=len(block))[query] > 1).nonzero().squeeze(1)
    score[several] = tiles.pair_scores(block, query[several], vector[several], exact_dots)
    best = torch.full_like(block.norms, -torch.inf).scatter_reduce(0, query, score, "amax")
    first = (score == best[query]).nonzero().squeeze(1)
    n_relevant = torch.zeros_like(block.own_vector).index_add(0, query[first], count[first])
    chosen = torch.zeros_like(block.own_vector).scatter_(0, query[first], vector[first])
    return _Target(chosen, best, n_relevant)


def _count(
    tiles: ScoreTiles,
    block: QueryBlock,
    target: _Target,
    begin: int,
    queries: Tensor,
    scores: Tensor,
    tolerance: Tensor,
    above: Tensor,
    tied: Tensor,
) -> None:
    """Add to `above` and `tied`, in place, the number of items that score higher than the target, and equal to it.

    Args:
        tiles: Scores of the gallery.
        block: B queries.
        target: Target of each query.
        begin: Index of the first vector that was scored.
        queries: int64 `(S,)`, indices of the queries that were scored.
        scores: float32 or float64 `(S, W)`.
        tolerance: float64 `(B,)`, largest error of a score.
        above: int64 `(B,)`.
        tied: int64 `(B,)`.
    """
    n_items = tiles.gallery.n_items
    allowed, best = tolerance[queries], target.score[queries]
    low, high = ((best + sign * allowed).to(scores.dtype)[:, None] for sign in (-1, 1))
    weights = _item_counts(n_items, begin, scores.shape[1]).to(scores.dtype)
    # Comparisons that are written as floats and summed by a product are several times as fast as booleans.
    compared = tiles.scratch("compared", len(scores), scores.shape[1], scores)
    n_above, n_at_least = (
        torch.mv(compare(scores, bound, out=compared), weights).long() for compare, bound in ((torch.gt, high), (torch.ge, low))
    )
    above.index_add_(0, queries, n_above)
    n_near = n_at_least - n_above
    vector = target.vector[queries]
    in_tile = (vector >= begin) & (vector < begin + scores.shape[1])
    clear = (allowed == 0) | (n_near == torch.where(in_tile, n_items[vector], 0))
    tied.index_add_(0, queries, torch.where(clear, n_near, 0))
    unclear = (~clear).nonzero().squeeze(1)
    if len(unclear):
        near = (scores[unclear] >= low[unclear]) & (scores[unclear] <= high[unclear])
        row, column = near.nonzero(as_tuple=True)
        query, other = queries[unclear][row], begin + column
        exact = tiles.pair_scores(block, query, other, exact_dots)
        goal = tiles.pair_scores(block, queries[unclear], target.vector[queries[unclear]], exact_dots)[row]
        items = n_items[other]
        above.index_add_(0, query, torch.where(exact > goal, items, 0))
        tied.index_add_(0, query, torch.where(exact == goal, items, 0))


def _item_counts(n_items: Tensor, begin: int, width: int) -> Tensor:
    """Return the number of items of consecutive vectors, int64 `(width,)`; 0 beyond the end of the gallery."""
    counts = n_items[begin : begin + width]
    return pad(counts, (0, width - len(counts)))
