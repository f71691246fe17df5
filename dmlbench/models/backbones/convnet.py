"""A small plain convolutional net, trained from scratch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class ConvNet(nn.Sequential):
    """Convolution 3 x 3, batch norm, ReLU and 2 x 2 maximum pooling, once a stage; the last stage keeps its size.

    Args:
        channels: of each stage's output.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 128)) -> None:
        stages: list[nn.Module] = []
        for stage, (into, out) in enumerate(pairwise((3, *channels))):
            stages += [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            if stage < len(channels) - 1:
                stages.append(nn.MaxPool2d(2))
        super().__init__(*stages)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 `(B, 3, H, W)` to a feature map `(B, C, h, w)`."""
        return super().forward(images)
