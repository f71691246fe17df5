"""What follows the trunk of a model: the pooling of its feature map, and the projection to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

Pooling = Literal["avg", "max", "avg+max", "mixed"]


def projection(channels: int, hidden: Sequence[int], embedding_dim: int | None, layer_norm: bool) -> nn.Module:
    """Build the projection from pooled features `(B, C)` to embeddings `(B, D)`.

    Args:
        channels: Number of channels C.
        hidden: Sizes of the hidden layers, each followed by ReLU. Empty for a linear projection.
        embedding_dim: Size D of the embedding. None ends the projection with its last hidden layer.
        layer_norm: Whether to begin with a LayerNorm.
    """
    sizes = (channels, *hidden)
    layers: list[nn.Module] = [nn.LayerNorm(channels)] if layer_norm else []
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ReLU(inplace=True)]
    if embedding_dim is not None:
        layers.append(nn.Linear(sizes[-1], embedding_dim))
    if not layers:
        return nn.Identity()
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def pool(features: torch.Tensor, pooling: Pooling, mix: torch.Tensor | None = None) -> torch.Tensor:
    """Pool a feature map over its spatial positions.

    Args:
        features: float `(B, C, h, w)`; or `(B, C)`, which is returned unchanged.
        pooling: `avg`; `max`; `avg+max`, the sum of both, as in the code of Proxy-Anchor; or `mixed`, a learned share of each.
        mix: For `mixed`: logit of the share of max pooling, a scalar.

    Returns:
        float `(B, C)`.

    Source:
        `mixed`: Lee, Gallagher & Tu, AISTATS 2016, arXiv:1509.08985, with one share for the whole layer.
    """
    if features.ndim == 2:
        return features
    average = features.mean((2, 3))
    if pooling == "avg":
        return average
    maximum = features.amax((2, 3))
    if pooling == "mixed":
        assert mix is not None
        share = torch.sigmoid(mix)
        return share * maximum + (1 - share) * average
    return maximum + (average if pooling == "avg+max" else 0)
