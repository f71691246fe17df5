"""The contrastive loss as first published: squared distances, averaged over all pairs."""

from __future__ import annotations

import torch
from torch import nn


class HadsellContrastiveLoss(nn.Module):
    """Half the squared distance of positive pairs, and half the squared shortfall of negative pairs to the margin.

    The paper sums over pairs. This is the mean over all pairs of a batch, including those whose loss is zero.

    Args:
        margin: Euclidean distance beyond which a negative pair does not contribute.

    Source:
        Hadsell, Chopra & LeCun, CVPR 2006, equation 4.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`.
            labels: int64 `(B,)`.

        Returns:
            The loss, a scalar. 0 for a batch without pairs.
        """
        first, second = torch.triu_indices(len(embeddings), len(embeddings), 1, device=embeddings.device)
        # The product form of cdist would lose the digits of small distances. Its gradient is 0 where the distance is 0.
        distance = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")[first, second]
        positive = labels[first] == labels[second]
        losses = torch.where(positive, distance, (self.margin - distance).clamp(min=0)).square() / 2
        return losses.sum() / max(len(first), 1)
