"""Triplets that the sampler has built: the images of a batch are anchor, positive, negative, anchor, and so on."""

from __future__ import annotations

import torch
from torch import nn


class ConsecutiveTriplets(nn.Module):
    """A miner that returns the triplets of which a batch consists, so that a loss uses no others."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the indices of the triplets.

        Args:
            embeddings: float `(3T, D)`.
            labels: int64 `(3T,)`; not used.

        Returns:
            Anchors, positives and negatives, each int64 `(T,)`.
        """
        anchors = torch.arange(0, len(embeddings), 3, device=embeddings.device)
        return anchors, anchors + 1, anchors + 2
