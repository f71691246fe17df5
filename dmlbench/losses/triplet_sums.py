"""Sums of the losses of all triplets of a batch, without a list of them.

A batch of B items has up to B^3 triplets. All functions need memory for a few matrices `(B, B)` and for blocks of bounded size.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

Form = Literal["hinge", "hinge_squared", "ratio", "soft"]
TRIPLETS_AT_ONCE = 2**18  # bounds the temporary memory of `sum_by_blocks`; a block stays in the cache of a CPU


class TripletSums(NamedTuple):
    """The sum of the losses of all triplets of a batch."""

    total: torch.Tensor
    """The sum, a scalar."""
    n: int
    """Number of triplets over which it is averaged."""
    gradient: torch.Tensor
    """Derivative of the sum by each distance, float `(B, B)`."""


def sum_by_counts(distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float) -> TripletSums:
    """Sum `max(0, d_ap - d_an + margin)` over all triplets.

    A triplet counts if the negative is nearer than the positive plus the margin. So the sum needs, for each pair of an anchor
    and a positive, only the number of such negatives, and for each negative the number of such positives. They are found with a
    search among the sorted positives of each anchor: O(B^2 log P) for P positives per anchor, instead of O(B^2 P).

    Args:
        distances: float `(B, B)`.
        positive: Whether each pair is an anchor and a positive, bool `(B, B)`.
        negative: Whether each pair is an anchor and a negative, bool `(B, B)`.
        margin: Margin.

    Returns:
        The sums, with the number of triplets whose loss is above zero.
    """
    anchors, positives = torch.nonzero(positive, as_tuple=True)
    counts = positive.sum(1)
    widest = max(int(counts.max()), 1)
    slots = torch.arange(len(anchors), device=distances.device) - (counts.cumsum(0) - counts)[anchors]
    limits = distances.new_full((len(distances), widest), torch.inf)  # up to which a negative counts for each positive
    limits[anchors, slots] = distances[anchors, positives] + margin
    limits, order = limits.sort(1)
    passed = torch.searchsorted(limits, distances, right=True, out_int32=True)  # positives for which an item is far enough
    passed = torch.where(negative, passed, widest + 1)
    pushes = (counts[:, None] - passed).clamp_(min=0)  # positives for which each negative is too near
    rows = torch.arange(len(distances), device=distances.device)[:, None] * (widest + 2)
    histogram = torch.bincount((passed + rows).flatten(), minlength=len(distances) * (widest + 2)).view(len(distances), -1)
    pulls = torch.zeros_like(order).scatter_(1, order, histogram.cumsum(1)[:, :widest])  # negatives that are too near
    gradient = -pushes.to(distances.dtype)
    gradient[anchors, positives] = pulls[anchors, slots].to(distances.dtype)
    n = int(pushes.sum())
    return TripletSums((gradient * distances).sum() + margin * n, n, gradient)


def sum_by_blocks(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, form: Form, margin: float, swap: bool
) -> TripletSums:
    """Sum a loss over all triplets, for a block of pairs of anchor and positive at a time.

    Args:
        distances: float `(B, B)`; squared for `hinge_squared`.
        positive: Whether each pair is an anchor and a positive, bool `(B, B)`.
        negative: Whether each pair is an anchor and a negative, bool `(B, B)`.
        form: Form of the loss.
        margin: Margin.
        swap: Whether the smaller one of `d_an` and `d_pn` replaces `d_an`.

    Returns:
        The sums, with the number of triplets whose loss is not zero.
    """
    table = {"ratio": torch.exp(distances), "soft": torch.exp(-distances)}.get(form, distances)
    symmetric = swap or form == "soft"  # then a pair has the same losses whichever of its items is the anchor
    weights = (positive.int() + positive.int().T).triu() if symmetric else positive.int()
    anchors, positives = torch.nonzero(weights, as_tuple=True)
    gradient = torch.zeros_like(distances)
    total, n = distances.new_zeros(()), torch.zeros((), dtype=torch.int64, device=distances.device)
    size = max(TRIPLETS_AT_ONCE // len(distances), 1)
    for a, p in zip(anchors.split(size), positives.split(size), strict=True):
        weight = weights[a, p].to(distances.dtype)[:, None]
        used = negative[a]
        losses, slopes, share = _losses(form, table[a, p][:, None], table[a], table[p] if symmetric else None, margin)
        losses = torch.where(used, losses, 0)
        total += (losses * weight).sum()
        n += ((losses != 0) * weights[a, p][:, None]).sum()
        slopes = torch.where(used & (losses != 0), slopes, 0) * weight
        gradient.index_put_((a, p), slopes.sum(1), accumulate=True)
        if share is None:
            gradient.index_add_(0, a, slopes, alpha=-1)
        else:
            gradient.index_add_(0, a, slopes * share, alpha=-1)
            gradient.index_add_(0, p, slopes * (1 - share), alpha=-1)
    return TripletSums(total, int(n), gradient)


def _losses(
    form: Form, near: torch.Tensor, first: torch.Tensor, second: torch.Tensor | None, margin: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The losses of P pairs with B items, their derivatives by `d_ap`, and the share of `d_an` in the rest of the derivative.

    Args:
        form: Form of the loss.
        near: Function of `d_ap`, float `(P, 1)`: `exp(d)` for `ratio`, `exp(-d)` for `soft`, otherwise `d`.
        first: The same function of `d_an`, float `(P, B)`.
        second: The same function of `d_pn`, float `(P, B)`; None if it has no part in the loss.
        margin: Margin.
    """
    if form == "soft":
        assert second is not None
        both = first + second
        return margin + torch.log(both / near), torch.ones_like(both), first / both
    far = first if second is None else torch.minimum(first, second)
    share = None if second is None else (first <= second).to(first.dtype)
    if form == "ratio":
        losses = (near - far) / (near + far)
        return losses, (1 - losses.square()) / 2, share
    losses = (near - far + margin).clamp(min=0)
    return losses, (losses > 0).to(losses.dtype), share
