"""Rank the gallery by scores that are not inner products, such as distances after re-ranking."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dmlbench.evaluation.ranking import Ranking, count_relevant, own_index


def ranking_from_scores(
    blocks: Iterable[Tensor],
    query_labels: Tensor,
    gallery_labels: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    depth: int = 0,
) -> Ranking:
    """Rank the gallery by given scores. All of them are sorted, which is slower than `rank`, and as exact.

    Args:
        blocks: float64 `(B, G)`, scores of consecutive queries, any number B at a time. Higher is nearer, equal is a tie.
        query_labels: int64 `(Q,)`.
        gallery_labels: int64 `(G,)`.
        query_ids: int64 `(Q,)`.
        gallery_ids: int64 `(G,)`.
        depth: Number of ranks to compute; raised to the largest R.
    """
    own = own_index(query_ids, gallery_ids)
    n_relevant = count_relevant(query_labels, gallery_labels, own)
    kept = n_relevant > 0
    depth = min(max(depth, int(n_relevant.max())), len(gallery_labels))
    parts: list[dict[str, Tensor]] = []
    begin = 0
    for block in blocks:
        queries = slice(begin, begin + len(block))
        begin = queries.stop
        relevant = query_labels[queries, None] == gallery_labels
        in_gallery = (own[queries] >= 0).nonzero().squeeze(1)
        block[in_gallery, own[queries][in_gallery]] = -torch.inf
        relevant[in_gallery, own[queries][in_gallery]] = False
        chosen = kept[queries]
        parts.append(_sorted_ranks(block[chosen], relevant[chosen], depth))
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Ranking(
        query_ids[kept], query_labels[kept], n_relevant[kept], **found,
        n_excluded=int((~kept).sum()), n_gallery=len(gallery_labels),
    )  # fmt: skip


def _sorted_ranks(scores: Tensor, relevant: Tensor, depth: int) -> dict[str, Tensor]:
    """Return the fields of a ranking from all scores of some queries. Items with minus infinity are left out."""
    scores, order = scores.sort(dim=1, descending=True)
    hits, exists = relevant.gather(1, order).long(), (scores > -torch.inf).long()
    is_first = torch.ones_like(hits, dtype=torch.bool)
    is_first[:, 1:] = scores[:, 1:] != scores[:, :-1]
    group = is_first.cumsum(1) - 1
    column = torch.arange(scores.shape[1]).expand_as(group)
    start = torch.where(is_first, column, 0).cummax(1).values
    size, n_hits = (torch.zeros_like(hits).scatter_add_(1, group, values).gather(1, group) for values in (exists, hits))
    best = hits.argmax(1, keepdim=True)  # the first relevant item
    return {
        "group_start": start[:, :depth],
        "group_size": torch.where(exists[:, :depth] > 0, size[:, :depth], 1),
        "group_relevant": n_hits[:, :depth],
        "best_above": start.gather(1, best).squeeze(1),
        "best_tied": size.gather(1, best).squeeze(1),
        "best_tied_relevant": n_hits.gather(1, best).squeeze(1),
    }
