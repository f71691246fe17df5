"""Losses that approximate a retrieval metric of the batch: Smooth-AP, ROADMAP and the Recall@k surrogate.

Each item of a batch is a query on the whole batch. Ranks are approximated by replacing the step function, which counts the
items with a higher similarity, by a function with a gradient. Memory is proportional to the number of positive pairs times
the size of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from dmlbench.losses.arguments import require_above_zero


class SmoothAPLoss(nn.Module):
    """One minus the mean average precision, with sigmoids for steps.

    As in the authors' code, the query is one of its own positives. Unlike there, labels may be in any order, and classes may
    differ in size. The class of pytorch-metric-learning 2.9 needs sorted batches with as many classes as images per class.

    Args:
        temperature: Temperature of the sigmoid.

    Source:
        Brown, Xie, Kalogeiton & Zisserman, ECCV 2020, arXiv:2007.12163; src/losses.py in Andrew-Brown1/Smooth_AP.
    """

    def __init__(self, temperature: float = 0.01) -> None:
        super().__init__()
        require_above_zero(temperature=temperature)
        self.temperature = temperature

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`, L2-normalised.
            labels: int64 `(B,)`.

        Returns:
            The loss, a scalar.
        """
        pairs = PositivePairs(embeddings, labels, with_query=True)
        return 1 - pairs.mean_average_precision(torch.sigmoid(pairs.lead / self.temperature))


class RoadmapLoss(nn.Module):
    """ROADMAP: an upper bound of one minus the mean average precision (SupAP), plus a calibration of similarities.

    An item counts for the rank of a positive by its lead in similarity over that positive. Positives count by a step function
    without gradient; negatives by a sigmoid, plus one half if they lead, and by a line if they lead by more than `delta`.
    As in the authors' code, the query is one of its own positives.

    Args:
        temperature: Temperature of the sigmoid.
        delta: Lead from which a line replaces the sigmoid.
        slope: Slope of the line.
        offset: Value of the line at a lead of 0.
        pos_margin: Similarity below which positive pairs are penalised, linearly.
        neg_margin: Similarity above which negative pairs are penalised, linearly.
        calibration_weight: Weight of the calibration.

    Source:
        Ramzi, Thome, Rambour, Audebert & Bitot, NeurIPS 2021, arXiv:2110.01445; losses/smooth_rank_ap.py and
        losses/calibration_loss.py in elias-ramzi/ROADMAP.
    """

    def __init__(
        self,
        temperature: float = 0.01,
        delta: float = 0.05,
        slope: float = 100.0,
        offset: float = 1.44,
        pos_margin: float = 0.9,
        neg_margin: float = 0.6,
        calibration_weight: float = 1.0,
    ) -> None:
        super().__init__()
        require_above_zero(temperature=temperature)
        self.temperature = temperature
        self.delta = delta
        self.slope = slope
        self.offset = offset
        self.pos_margin = pos_margin
        self.neg_margin = neg_margin
        self.calibration_weight = calibration_weight

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`, L2-normalised.
            labels: int64 `(B,)`.

        Returns:
            The loss, a scalar.
        """
        pairs = PositivePairs(embeddings, labels, with_query=True)
        lead = pairs.lead
        smooth = torch.sigmoid(lead / self.temperature) + (lead > 0) / 2
        negative = torch.where(lead > self.delta, self.slope * lead + self.offset, smooth)
        counts = torch.where(pairs.relevant, (lead >= 0).to(lead.dtype), negative)
        ranking = 1 - pairs.mean_average_precision(counts)
        return ranking + self.calibration_weight * self._calibration(pairs.similarity, pairs.same)

    def _calibration(self, similarity: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        """Mean excess of the positive and of the negative pairs that violate their margin."""
        other = ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        excesses = ((self.pos_margin - similarity)[same & other], (similarity - self.neg_margin)[~same])
        parts = [torch.where(excess > 0, excess, 0).sum() / (excess > 0).sum().clamp(min=1) for excess in excesses]
        return parts[0] + parts[1]


class RecallAtKSurrogateLoss(nn.Module):
    """One minus the Recall@k, averaged over several k, with sigmoids for steps.

    As in the authors' code, the query is among the items that precede a positive, and a recall is the number of positives
    among the first k, divided by the smaller of k and the number of positives. Queries without positives are left out.

    Args:
        ks: Values of k. A k above the size of the batch is replaced by it.
        k_temperatures: Temperature of the sigmoid that decides whether a rank is within k, for each k.
        temperature: Temperature of the sigmoid that approximates ranks.

    Source:
        Patel, Tolias & Matas, CVPR 2022, arXiv:2108.11179; src/losses.py in yash0307/RecallatK_surrogate.
    """

    # Buffers
    ks: torch.Tensor
    k_temperatures: torch.Tensor

    def __init__(
        self,
        ks: Sequence[int] = (1, 2, 4, 8, 16),
        k_temperatures: Sequence[float] = (1, 2, 4, 8, 16),
        temperature: float = 0.01,
    ) -> None:
        super().__init__()
        if len(ks) != len(k_temperatures) or not ks:
            raise ValueError(f"ks has {len(ks)} values and k_temperatures {len(k_temperatures)}; each k needs one temperature")
        if min(ks) < 1:
            raise ValueError(f"ks is {list(ks)}; each k must be at least 1")
        if not min(k_temperatures) > 0:
            raise ValueError(f"k_temperatures is {list(k_temperatures)}; each temperature must be above 0")
        require_above_zero(temperature=temperature)
        self.temperature = temperature
        self.register_buffer("ks", torch.tensor([float(k) for k in ks]), persistent=False)
        self.register_buffer("k_temperatures", torch.tensor([float(one) for one in k_temperatures]), persistent=False)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`, L2-normalised.
            labels: int64 `(B,)`.

        Returns:
            The loss, a scalar. 0, with a zero gradient, for a batch without positive pairs.
        """
        pairs = PositivePairs(embeddings, labels, with_query=False)
        # The positive itself has a lead of 0, so it adds 1/2 to the sum, without a gradient, instead of 1 to the rank.
        ranks = 0.5 + torch.sigmoid(pairs.lead / self.temperature).sum(1)
        ks = self.ks.clamp(max=len(labels)).to(ranks.dtype)
        within = torch.sigmoid((ks - ranks[:, None]) / self.k_temperatures)
        found = torch.zeros(len(labels), len(ks), dtype=ranks.dtype, device=ranks.device)
        found = found.index_add(0, pairs.queries, within).minimum(ks)
        recall = found / torch.minimum(ks, pairs.n_positives[:, None].clamp(min=1))
        has_positives = pairs.n_positives > 0
        return ((1 - recall.mean(1)) * has_positives).sum() / has_positives.sum().clamp(min=1)


class PositivePairs:
    """The P pairs of a query and one of its positives in a batch, and the lead of each item over the positive of each pair.

    Args:
        embeddings: float `(B, D)`, L2-normalised.
        labels: int64 `(B,)`.
        with_query: Whether a query is one of its own positives.
    """

    similarity: torch.Tensor
    """Cosine similarities, float `(B, B)`."""
    same: torch.Tensor
    """Whether two items have the same class, bool `(B, B)`."""
    queries: torch.Tensor
    """Query of each pair, int64 `(P,)`."""
    lead: torch.Tensor
    """Similarity of each item to the query minus that of the positive, float `(P, B)`."""
    n_positives: torch.Tensor
    """Number of positives of each query, float `(B,)`."""

    def __init__(self, embeddings: torch.Tensor, labels: torch.Tensor, with_query: bool) -> None:
        self.similarity = embeddings @ embeddings.T
        self.same = labels[:, None] == labels[None, :]
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = self.same if with_query else self.same & ~itself
        self.queries, self._positives = torch.nonzero(positive, as_tuple=True)
        self.lead = self.similarity[self.queries] - self.similarity[self.queries, self._positives][:, None]
        self.n_positives = positive.sum(1).to(embeddings.dtype)

    @cached_property
    def relevant(self) -> torch.Tensor:
        """Whether each item has the class of the query, bool `(P, B)`."""
        return self.same[self.queries]

    def mean_average_precision(self, counts: torch.Tensor) -> torch.Tensor:
        """Compute the mean average precision.

        Args:
            counts: How much each item counts for the rank of the positive of each pair, float `(P, B)`.

        Returns:
            The mean over the queries that have positives, a scalar.
        """
        others = torch.arange(len(self.same), device=self.same.device) != self._positives[:, None]
        counts = counts * others
        precision = (1 + (counts * self.relevant).sum(1)) / (1 + counts.sum(1))
        return (precision / self.n_positives[self.queries]).sum() / (self.n_positives > 0).sum().clamp(min=1)
