"""The triplet loss in four forms, over all triplets of a batch or over given ones."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_triplets
from torch import nn
from torch.nn.functional import normalize

from dmlbench.losses.triplet_sums import Form, TripletSums, sum_by_blocks, sum_by_counts

_ZERO_BELOW = 1e-7  # distances of unit vectors in float32 below this are rounding


class TripletLoss(nn.Module):
    """A loss over triplets of an anchor, a positive and a negative, with Euclidean distances of unit vectors.

    With `d_ap`, `d_an` and `d_pn`, the distances between anchor, positive and negative, the forms are

    - `hinge`: `max(0, d_ap - d_an + margin)`;
    - `hinge_squared`: the same with squared distances;
    - `ratio`: `(e^d_ap / s)^2 - (e^d_an / s)^2` with `s = e^d_ap + e^d_an`, which equals `tanh((d_ap - d_an) / 2)`;
    - `soft`: `d_ap + log(e^(margin - d_an) + e^(margin - d_pn))`.

    Without given triplets, all triplets of the batch are used. They are not listed: sums of hinge losses need only the number
    of negatives within the margin of each positive, and the other forms are summed in blocks of bounded size.

    Args:
        form: `hinge`, `hinge_squared`, `ratio` or `soft`.
        margin: Margin of the hinge forms. In `soft`, it adds a constant, so its gradient does not depend on it. `ratio` ignores
            it.
        positive_percentile: Use only local positives of each anchor: those whose distance is at most this percentile of the
            distances of its positives. It needs all triplets of a batch. None uses all positives.
        swap: Swap anchor and positive if that makes the loss larger: the smaller one of `d_an` and `d_pn` replaces `d_an`.
            `soft` is symmetric, so it does not change.
        average: Average the losses over the triplets whose loss is `non_zero`, or over `all` triplets.

    Source:
        Shah, Clustering and querying images from unknown classes using metric learning, Stanford University; section 5.
    """

    def __init__(
        self,
        form: Form = "hinge",
        margin: float = 0.2,
        positive_percentile: float | None = None,
        swap: bool = False,
        average: Literal["non_zero", "all"] = "non_zero",
    ) -> None:
        super().__init__()
        for name, value, known in (("form", form, Form.__args__), ("average", average, ("non_zero", "all"))):  # type: ignore[attr-defined]
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it must be {', '.join(known[:-1])} or {known[-1]}")
        if positive_percentile is not None and not 0 <= positive_percentile <= 100:
            raise ValueError(f"positive_percentile is {positive_percentile}; it must be from 0 to 100, or null")
        self.form: Form = form
        self.margin = margin
        self.positive_percentile = positive_percentile
        self.swap = swap
        self.average = average

    @property
    def refuses_triplets(self) -> str | None:
        """Why the loss cannot use given triplets, a clause; None if it can."""
        if self.positive_percentile is None:
            return None
        return f"positive_percentile is {self.positive_percentile}: local positives are chosen among all positives of a batch"

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices_tuple: Any = None) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`; they are L2-normalised.
            labels: int64 `(B,)`.
            indices_tuple: Triplets to use, as three int64 tensors `(T,)` of anchors, positives and negatives; or pairs, as four
                tensors. None for all triplets of the batch.

        Returns:
            The loss, a scalar. 0, with a zero gradient, for a batch without triplets.

        Raises:
            ValueError: Triplets are given although the loss has local positives, which are chosen among those of a batch.
        """
        units = normalize(embeddings)
        if indices_tuple is None:
            return cast(torch.Tensor, _AllTriplets.apply(units, labels, self))
        if self.refuses_triplets is not None:
            raise ValueError(f"{self.refuses_triplets}, but triplets are given")
        losses = self._losses(units, *convert_to_triplets(indices_tuple, labels))
        n = len(losses) if self.average == "all" else int((losses != 0).sum())
        return losses.sum() / max(n, 1)

    def _losses(self, units: torch.Tensor, a: torch.Tensor, p: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        """The losses of T given triplets, float `(T,)`."""
        squared = self.form == "hinge_squared"
        near, far = _distances(units, a, p, squared), _distances(units, a, n, squared)
        if self.form == "soft":
            return near + self.margin + torch.logaddexp(-far, -_distances(units, p, n, squared))
        if self.swap:
            far = torch.minimum(far, _distances(units, p, n, squared))
        return torch.tanh((near - far) / 2) if self.form == "ratio" else (near - far + self.margin).clamp(min=0)

    def sums(self, distances: torch.Tensor, labels: torch.Tensor) -> TripletSums:
        """Sum the losses of all triplets of a batch.

        Args:
            distances: Distances, squared in the form `hinge_squared`, float64 `(B, B)`.
            labels: int64 `(B,)`.

        Returns:
            The sum, the number of triplets over which it is averaged, and the gradient of the sum.
        """
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        if self.positive_percentile is not None:
            positive &= distances <= _local_thresholds(distances, positive, self.positive_percentile)[:, None]
        if self.form in ("hinge", "hinge_squared") and not self.swap:
            found = sum_by_counts(distances, positive, ~same, self.margin)
        else:
            found = sum_by_blocks(distances, positive, ~same, self.form, self.margin, self.swap)
        if self.average == "all":
            return found._replace(n=int((positive.sum(1) * (~same).sum(1)).sum()))
        return found


def _distances(units: torch.Tensor, first: torch.Tensor, second: torch.Tensor, squared: bool) -> torch.Tensor:
    """Distances of T pairs, float `(T,)`. The gradient of a distance of zero is zero."""
    square = (units[first] - units[second]).square().sum(1)
    if squared:
        return square
    apart = square > _ZERO_BELOW**2
    return torch.where(apart, torch.where(apart, square, 1).sqrt(), 0)


def _local_thresholds(distances: torch.Tensor, positive: torch.Tensor, percentile: float) -> torch.Tensor:
    """The largest distance of a local positive of each anchor, float `(B,)`: the percentile, rounded down to a distance."""
    counts = positive.sum(1)
    widest = max(int(counts.max()), 1)
    ordered = distances.masked_fill(~positive, torch.inf).topk(widest, largest=False).values
    rank = ((counts - 1).clamp(min=0) * (percentile / 100) + 1e-9).long()
    return ordered.gather(1, rank[:, None])[:, 0]


class _AllTriplets(torch.autograd.Function):
    """The mean loss over all triplets of a batch, in float64, with the gradient that is found on the way."""

    @staticmethod
    def forward(ctx: Any, units: torch.Tensor, labels: torch.Tensor, loss: TripletLoss) -> torch.Tensor:
        x = units.double()
        squares = x.square().sum(1)
        square = (squares[:, None] + squares[None, :] - 2 * (x @ x.T)).clamp_(min=0)
        square.masked_fill_(square <= _ZERO_BELOW**2, 0)
        distances = square if loss.form == "hinge_squared" else square.sqrt()
        found = loss.sums(distances, labels)
        gradient = found.gradient
        if loss.form != "hinge_squared":  # the derivative of the distance by its square; zero at zero
            gradient = torch.where(square > 0, gradient / (2 * distances), 0)
        gradient = (gradient + gradient.T) * (2 / max(found.n, 1))
        ctx.save_for_backward((gradient.sum(1)[:, None] * x - gradient @ x).to(units.dtype))
        # A comparison with NaN selects nothing, so the sum alone would hide embeddings that are not finite.
        return ((found.total + 0 * distances.sum()) / max(found.n, 1)).to(units.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[torch.Tensor, None, None]:
        [gradient] = ctx.saved_tensors
        return grad_outputs[0] * gradient, None, None
