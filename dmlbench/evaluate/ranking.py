"""Floor 4: the order in which each query finds the gallery, ties included; the one thing that metrics read.

Scores are inner products accumulated in float64, in which the products of float32 numbers are exact. What is
left is the rounding of the sum, which depends on where a pair stands in the matrix product. Two scores that
are equal up to that rounding are tied, and metrics give a tie its expected value over random orders, so
neither a permutation of the rows nor the size of a chunk changes a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from dmlbench.errors import MethodFailure

# Scores held at once, 16 MiB of float64: sorting a whole block of them takes some ten times that.
_BLOCK_SCORES = 2**21
_ROWS_NAMED = 5


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a search found for each evaluated query, and for each of its first K ranks; tensors on the CPU.

    A tie group is a run of ranks with equal scores; its size and its relevant items count all of it, also
    what lies below rank K. Without ties every group has size 1.

    Args:
        query_ids: int64 `(Q,)`, the queries with at least one relevant item, in the order given.
        query_labels: int64 `(Q,)`.
        n_relevant: int64 `(Q,)`, R: how many *other* gallery items carry the query's label; at least 1.
        relevant: bool `(Q, K)`, whether the item at the rank is relevant; in no given order within a tie.
        group_start: int64 `(Q, K)`, the 0-based rank at which the rank's tie group starts.
        group_size: int64 `(Q, K)`, items in the rank's tie group.
        group_relevant: int64 `(Q, K)`, relevant items in the rank's tie group.
        best_above: int64 `(Q,)`, items strictly above the best relevant item, which may lie below rank K.
        best_tied: int64 `(Q,)`, items in the best relevant item's tie group, itself included.
        best_tied_relevant: int64 `(Q,)`, relevant items in that group, itself included.
        n_excluded: queries left out because no other gallery item carries their label.
        n_gallery: items in the gallery.
    """

    query_ids: Tensor
    query_labels: Tensor
    n_relevant: Tensor
    relevant: Tensor
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
        """How many queries were evaluated."""
        return len(self.query_ids)

    @property
    def depth(self) -> int:
        """K: how many ranks are known of each query; no less than the greatest R."""
        return self.relevant.shape[1]


def rank(
    queries: Tensor,
    gallery: Tensor,
    query_labels: Tensor,
    gallery_labels: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    depth: int = 0,
    chunk_size: int = 1024,
    progress: bool = False,
) -> Ranking:
    """Order the gallery for each query by inner product, the query itself left out by its id.

    Two scores are tied where they differ by no more than `2 D eps |q| max|g|`, eps = 2^-52, and ties are
    chained along the order. A sum of D products in float64, in whatever order, errs by at most
    `D eps/2 |q| |g|`, two of them by `D eps |q| |g|`; the factor 2 covers the rounding of the bound itself.
    For unit vectors of 512 dimensions that is 2.3e-13, while the last digit of one float32 coordinate moves a
    score by about 1e-10.

    Args:
        queries: float32 `(Q, D)`, on any device that has float64.
        gallery: float32 `(G, D)`, at least one item; may be the same items as the queries.
        query_labels: int64 `(Q,)`, any values.
        gallery_labels: int64 `(G,)`.
        query_ids: int64 `(Q,)`, each once; a query and a gallery item with the same id are the same image.
        gallery_ids: int64 `(G,)`, each once.
        depth: ranks to keep; raised to the greatest R, for R-precision and MAP@R, and capped by the gallery.
        chunk_size: queries scored at once, fewer where the gallery is large; never changes a number.
        progress: whether to draw a bar once the search has taken two seconds.

    Returns:
        The ranking of the queries that have a relevant item; the others are counted as excluded.

    Raises:
        MethodFailure: an embedding is NaN or infinite; the rows are named.
        ValueError: shapes or lengths do not fit, labels or ids are not int64, an id stands twice, no gallery.

    >>> x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> labels, ids = torch.tensor([7, 7, 9]), torch.arange(3)
    >>> ranking = rank(x, x, labels, labels, ids, ids)
    >>> ranking.relevant.tolist(), ranking.n_excluded
    ([[True], [False]], 1)
    """
    _check_sides(queries, gallery)
    device = gallery.device
    query_labels, query_ids = _check_items("query", queries, query_labels, query_ids, device)
    gallery_labels, gallery_ids = _check_items("gallery", gallery, gallery_labels, gallery_ids, device)

    own = _own_position(query_ids, gallery_ids)
    n_relevant = _count_relevant(query_labels, gallery_labels, own)
    kept = n_relevant.nonzero().squeeze(1)
    depth = min(max([depth, *n_relevant.tolist()]), len(gallery))

    gallery64 = gallery.double()
    rounding = 2 * gallery.shape[1] * torch.finfo(torch.float64).eps * gallery64.norm(dim=1).max()
    blocks = []
    with tqdm(total=len(kept), desc="rank", unit="query", delay=2, leave=False, disable=not progress) as bar:
        for lines in kept.split(max(1, min(chunk_size, _BLOCK_SCORES // len(gallery)))):
            block = queries[lines.to(queries.device)].to(gallery64)
            scores = block @ gallery64.T
            relevant = query_labels[lines, None] == gallery_labels
            _leave_out(own[lines], scores, relevant)
            blocks.append(_rank_block(scores, relevant, depth, tolerance=rounding * block.norm(dim=1)))
            bar.update(len(lines))
    return Ranking(
        query_ids=query_ids[kept].cpu(),
        query_labels=query_labels[kept].cpu(),
        n_relevant=n_relevant[kept].cpu(),
        **{name: torch.cat([block[name].cpu() for block in blocks]) for name in blocks[0]},
        n_excluded=len(queries) - len(kept),
        n_gallery=len(gallery),
    )


def _check_sides(queries: Tensor, gallery: Tensor) -> None:
    if queries.ndim != 2 or gallery.ndim != 2:
        raise ValueError(f"embeddings are (N, D): queries have {queries.ndim} dimensions, the gallery has {gallery.ndim}")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} columns but the gallery has {gallery.shape[1]}; they must agree")
    if not len(gallery):
        raise ValueError(f"the gallery is empty: {len(queries)} queries have nothing to find")


def _check_items(side: str, embeddings: Tensor, labels: Tensor, ids: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Refuse what cannot be ranked; give labels and ids on the device of the search."""
    for name, values in (("labels", labels), ("ids", ids)):
        if values.shape != embeddings.shape[:1]:
            shape = tuple(values.shape)
            raise ValueError(f"{side}_{name} have the shape {shape}, {side} embeddings {len(embeddings)} rows")
        if values.dtype != torch.int64:  # float32 would merge all labels above 2^24
            raise ValueError(f"{side}_{name} must be int64, not {str(values.dtype).removeprefix('torch.')}")
    distinct, counts = ids.unique(return_counts=True)
    if len(distinct) < len(ids):
        raise ValueError(f"{side}_ids: the id {int(distinct[counts > 1][0])} stands more than once")
    broken = (~embeddings.isfinite().all(dim=1)).nonzero().squeeze(1).tolist()
    if broken:
        named = ", ".join(map(str, broken[:_ROWS_NAMED])) + (", ..." if len(broken) > _ROWS_NAMED else "")
        raise MethodFailure(f"{len(broken)} of {len(embeddings)} {side} embeddings are NaN or infinite (rows {named})")
    return labels.to(device), ids.to(device)


def _own_position(query_ids: Tensor, gallery_ids: Tensor) -> Tensor:
    """Where in the gallery each query itself stands, int64 `(Q,)`; -1 where it does not."""
    ascending, order = gallery_ids.sort()
    place = torch.searchsorted(ascending, query_ids).clamp(max=len(ascending) - 1)
    return torch.where(ascending[place] == query_ids, order[place], -1)


def _count_relevant(query_labels: Tensor, gallery_labels: Tensor, own: Tensor) -> Tensor:
    """R of each query: gallery items of its label, itself not counted, int64 `(Q,)`."""
    known, counts = gallery_labels.unique(return_counts=True)
    place = torch.searchsorted(known, query_labels).clamp(max=len(known) - 1)
    same = torch.where(known[place] == query_labels, counts[place], 0)
    itself = (own >= 0) & (gallery_labels[own.clamp(min=0)] == query_labels)
    return same - itself.long()


def _leave_out(own: Tensor, scores: Tensor, relevant: Tensor) -> None:
    """Put each query itself last, in place; not relevant, for a list as long as the gallery still has it."""
    in_gallery = (own >= 0).nonzero().squeeze(1)
    scores[in_gallery, own[in_gallery]] = -torch.inf
    relevant[in_gallery, own[in_gallery]] = False


def _rank_block(scores: Tensor, relevant: Tensor, depth: int, tolerance: Tensor) -> dict[str, Tensor]:
    """The fields of a `Ranking` for some queries: from their first ranks if that is enough, else whole rows.

    Args:
        scores: float64 `(B, G)`, the query itself at minus infinity.
        relevant: bool `(B, G)`.
        depth: K.
        tolerance: float64 `(B,)`, the greatest difference of two tied scores.
    """
    # One rank more than asked for, to see whether a tie group reaches across the cut.
    descending, order = scores.topk(min(depth + 1, scores.shape[1]), dim=1)
    hits = relevant.gather(1, order)
    found, complete = _read_order(descending, hits, depth, tolerance)
    lacking = (~complete).nonzero().squeeze(1)
    if len(lacking) and descending.shape[1] < scores.shape[1]:
        descending, order = scores[lacking].sort(dim=1, descending=True)
        hits = relevant[lacking].gather(1, order)
        whole, _ = _read_order(descending, hits, depth, tolerance[lacking])
        for name, values in whole.items():
            found[name][lacking] = values
    return found


def _read_order(descending: Tensor, hits: Tensor, depth: int, tolerance: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """The fields of a `Ranking` from sorted scores, and whether the columns given sufficed, bool `(B,)`."""
    n_columns = descending.shape[1]
    column = torch.arange(n_columns, device=hits.device)
    first = torch.ones_like(hits)
    first[:, 1:] = descending[:, :-1] - descending[:, 1:] > tolerance[:, None]
    group = first.cumsum(1) - 1
    start = torch.where(first, column, 0).cummax(1).values
    size = _sum_by_group(group, torch.ones_like(group))
    n_hits = _sum_by_group(group, hits.long())
    # Without any hit this reads the last column, and the row is not complete.
    best = torch.where(hits, column, n_columns - 1).min(1, keepdim=True).values
    found = {
        "relevant": hits[:, :depth],
        "group_start": start[:, :depth],
        "group_size": size[:, :depth],
        "group_relevant": n_hits[:, :depth],
        "best_above": start.gather(1, best).squeeze(1),
        "best_tied": size.gather(1, best).squeeze(1),
        "best_tied_relevant": n_hits.gather(1, best).squeeze(1),
    }
    complete = hits[:, :depth].any(1)
    if n_columns > depth:
        complete &= first[:, depth]
    return found, complete


def _sum_by_group(group: Tensor, values: Tensor) -> Tensor:
    """The sum of each row's values over the group of each column, int64 `(B, W)`."""
    return torch.zeros_like(values).scatter_add_(1, group, values).gather(1, group)
