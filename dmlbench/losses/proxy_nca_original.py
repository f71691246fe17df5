"""Proxy-NCA as first published: the own proxy is not part of the denominator."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize


class ProxyNCAOriginalLoss(nn.Module):
    """The distance to the own proxy plus the log-sum-exp of the negated distances to all other proxies.

    Distances are squared Euclidean distances of unit vectors. The loss can be negative.

    Args:
        num_classes: Number C of training classes, at least 2.
        embedding_size: Size D of the embedding.
        softmax_scale: Factor of all distances; 1 in the paper.

    Source:
        Movshovitz-Attias et al., ICCV 2017, arXiv:1703.07464, equation 4.
    """

    def __init__(self, num_classes: int, embedding_size: int, softmax_scale: float = 1.0) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; the loss compares a class with others and needs at least 2")
        self.softmax_scale = softmax_scale
        self.proxies = nn.Parameter(torch.randn(num_classes, embedding_size))  # as in pytorch-metric-learning's ProxyNCALoss

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`.
            labels: int64 `(B,)`, from 0 to C - 1.

        Returns:
            The loss, a scalar.
        """
        cosine = normalize(embeddings) @ normalize(self.proxies).T
        distance = self.softmax_scale * 2 * (1 - cosine)
        own = nn.functional.one_hot(labels, len(self.proxies)).bool()
        return (distance[own] + torch.logsumexp((-distance).masked_fill(own, -torch.inf), 1)).mean()
