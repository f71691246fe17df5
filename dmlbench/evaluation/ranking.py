"""The order in which each query finds the gallery, ties included; the one thing that metrics read.

Two scores tie where their inner products, each correctly rounded to float64, are equal; metrics give a tie its expected
value over random orders. Scores are looked for with float32 products and decided by exact ones (see `search`), so neither
a permutation of the rows nor the size of a chunk changes a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from dmlbench.evaluation.gallery import Gallery, Rows, exponents_of, scaled, validate_and_hash
from dmlbench.evaluation.knn_search import Block, Search


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a search found for each evaluated query, and for each of its first K ranks; tensors on the CPU.

    A tie group is a run of ranks with equal scores; its size and its relevant items count all of it, also
    what lies below rank K. Without ties every group has size 1.

    Args:
        query_ids: int64 `(Q,)`, the queries with at least one relevant item, in the order given.
        query_labels: int64 `(Q,)`.
        n_relevant: int64 `(Q,)`, R: how many *other* gallery items carry the query's label; at least 1.
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
        return self.group_start.shape[1]


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
    """Order the gallery for each query by inner product, the query itself left out by its id.

    Args:
        queries: float `(Q, D)`, on any device that has float64; what is no float32 is read as float32.
        gallery: float `(G, D)`, at least one item; may be the same items as the queries. The search runs on its device.
        query_labels: int64 `(Q,)`, any values.
        gallery_labels: int64 `(G,)`.
        query_ids: int64 `(Q,)`, each once; a query and a gallery item with the same id are the same image.
        gallery_ids: int64 `(G,)`, each once.
        depth: ranks to keep; raised to the greatest R, for R-precision and MAP@R, and capped by the gallery.
        chunk_size: queries scored at once, by default as many as pay; never changes a number.
        progress: whether to draw a bar once the search has taken two seconds.

    Returns:
        The ranking of the queries that have a relevant item; the others are counted as excluded.

    Raises:
        MethodFailure: an embedding is NaN or infinite; the rows are named.
        ValueError: shapes or lengths do not fit, labels or ids are not int64, an id stands twice, no gallery.

    >>> x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> labels, ids = torch.tensor([7, 7, 9]), torch.arange(3)
    >>> ranking = rank(x, x, labels, labels, ids, ids)
    >>> ranking.group_relevant.tolist(), ranking.n_excluded
    ([[1], [0]], 1)
    """
    queries, gallery = _as_float32(queries), _as_float32(gallery)
    _check_sides(queries, gallery)
    device = gallery.device
    query_labels, query_ids = _check_items("query", queries, query_labels, query_ids, device)
    gallery_labels, gallery_ids = _check_items("gallery", gallery, gallery_labels, gallery_ids, device)
    of_gallery = validate_and_hash("gallery", gallery)
    surveyed = of_gallery if queries is gallery else validate_and_hash("query", queries)

    own = _own_position(query_ids, gallery_ids)
    known = Gallery.of(gallery, gallery_labels, of_gallery)
    n_relevant = _count_relevant(query_labels, gallery_labels, own)
    kept = n_relevant.nonzero().squeeze(1)
    depth = min(max(depth, int(n_relevant.max()) if len(n_relevant) else 0), len(gallery))

    itself = torch.where(own >= 0, known.of_item[own.clamp(min=0)], -1)
    own_relevant = (own >= 0) & (gallery_labels[own.clamp(min=0)] == query_labels)
    places = known.label_places(query_labels)

    def block_of(lines: Tensor) -> Block:
        rows = queries[lines.to(queries.device)].to(device)
        norms = surveyed.norms[lines.to(queries.device)].to(device)
        exponents = exponents_of(norms)
        rows, norms = scaled(rows, exponents), torch.ldexp(norms, -exponents)
        return Block(rows, norms, places[lines], itself[lines], own_relevant[lines], surveyed.bits)

    search = Search(known, max(depth, 1))
    found = {name: torch.empty(len(kept), depth, dtype=torch.int64) for name in ("group_start", "group_size", "group_relevant")}
    found |= {name: torch.empty(len(kept), dtype=torch.int64) for name in ("best_above", "best_tied", "best_tied_relevant")}
    lines = torch.arange(len(kept), device=device)
    with (
        full_precision(),
        tqdm(total=len(kept), desc="rank", unit="query", delay=2, leave=False, disable=not progress) as bar,
    ):
        for dtype in (torch.float32, torch.float64):
            untold = []
            size = min(chunk_size or len(kept), search.block_size(dtype))
            for part in lines.split(size) if len(lines) else ():
                fields, told = search.first_ranks(block_of(kept[part]), dtype)
                for name, values in fields.items():
                    found[name][part.cpu()] = values.cpu()
                untold.append(part[~told])
                bar.update(int(told.sum()))
            lines = torch.cat([lines[:0], *untold])
    return Ranking(
        query_ids=query_ids[kept].cpu(),
        query_labels=query_labels[kept].cpu(),
        n_relevant=n_relevant[kept].cpu(),
        **found,
        n_excluded=len(queries) - len(kept),
        n_gallery=len(gallery),
    )


def ranking_from_scores(
    blocks: Iterable[Tensor],
    query_labels: Tensor,
    gallery_labels: Tensor,
    query_ids: Tensor,
    gallery_ids: Tensor,
    depth: int = 0,
) -> Ranking:
    """Rank the gallery by scores that are no inner products, each row sorted whole: slower than `rank`, and as exact.

    Args:
        blocks: float64 `(B, G)`, the scores of consecutive queries, B as it comes; greater is nearer, equal is a tie.
        query_labels: int64 `(Q,)`.
        gallery_labels: int64 `(G,)`.
        query_ids: int64 `(Q,)`.
        gallery_ids: int64 `(G,)`.
        depth: ranks to look at, at least.
    """
    own = _own_position(query_ids, gallery_ids)
    n_relevant = _count_relevant(query_labels, gallery_labels, own)
    kept = n_relevant > 0
    depth = min(max(depth, int(n_relevant.max())), len(gallery_labels))
    parts: list[dict[str, Tensor]] = []
    begin = 0
    for block in blocks:
        lines = slice(begin, begin + len(block))
        begin = lines.stop
        relevant = query_labels[lines, None] == gallery_labels
        itself = (own[lines] >= 0).nonzero().squeeze(1)
        block[itself, own[lines][itself]] = -torch.inf
        relevant[itself, own[lines][itself]] = False
        chosen = kept[lines]
        parts.append(_whole_order(block[chosen], relevant[chosen], depth))
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Ranking(
        query_ids[kept], query_labels[kept], n_relevant[kept], **found,
        n_excluded=int((~kept).sum()), n_gallery=len(gallery_labels),
    )  # fmt: skip


def _whole_order(scores: Tensor, relevant: Tensor, depth: int) -> dict[str, Tensor]:
    """The fields of a ranking from all scores of some queries; an item at minus infinity is not there."""
    scores, order = scores.sort(dim=1, descending=True)
    hits, there = relevant.gather(1, order).long(), (scores > -torch.inf).long()
    first = torch.ones_like(hits, dtype=torch.bool)
    first[:, 1:] = scores[:, 1:] != scores[:, :-1]
    group = first.cumsum(1) - 1
    column = torch.arange(scores.shape[1]).expand_as(group)
    start = torch.where(first, column, 0).cummax(1).values
    size, of_group = (torch.zeros_like(hits).scatter_add_(1, group, values).gather(1, group) for values in (there, hits))
    best = hits.argmax(1, keepdim=True)  # the first of several
    return {
        "group_start": start[:, :depth],
        "group_size": torch.where(there[:, :depth] > 0, size[:, :depth], 1),
        "group_relevant": of_group[:, :depth],
        "best_above": start.gather(1, best).squeeze(1),
        "best_tied": size.gather(1, best).squeeze(1),
        "best_tied_relevant": of_group.gather(1, best).squeeze(1),
    }


@contextmanager
def full_precision() -> Iterator[None]:
    """Products in all of float32's bits: neither TF32 nor bfloat16, which the bound on rounding does not allow for."""
    before, tf32 = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cuda.matmul.allow_tf32 = tf32


def _as_float32(rows: Rows) -> Rows:
    return rows.float() if isinstance(rows, Tensor) else rows


def _check_sides(queries: Rows, gallery: Rows) -> None:
    n_query, n_gallery = len(queries.shape), len(gallery.shape)
    if n_query != 2 or n_gallery != 2:
        raise ValueError(f"embeddings are (N, D): queries have {n_query} dimensions, the gallery has {n_gallery}")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} columns but the gallery has {gallery.shape[1]}; they must agree")
    if not len(gallery):
        raise ValueError(f"the gallery is empty: {len(queries)} queries have nothing to find")


def _check_items(side: str, embeddings: Rows, labels: Tensor, ids: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
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
