"""Raw pixels as features: the floor that needs no network at all."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIDE_PX = 16


class RawPixels(nn.Module):
    """Average an image over 16 x 16 cells, and subtract its mean from each channel.

    The cosine similarity of two such vectors is the correlation of the images' pixels. It tells how much of a data set can be
    retrieved without any learnt feature.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the pixels of a batch as vectors.

        Args:
            images: float32 `(B, 3, H, W)`, RGB.

        Returns:
            float32 `(B, 768)`.
        """
        cells = functional.adaptive_avg_pool2d(images, SIDE_PX)
        return (cells - cells.mean((2, 3), keepdim=True)).flatten(1)
