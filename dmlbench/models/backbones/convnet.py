"""A small plain convolutional network, trained from scratch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class ConvNet(nn.Sequential):
    """A stack of 3 x 3 convolutions, each with batch normalization and ReLU, and 2 x 2 max pooling after all but the last.

    Args:
        channels: Number of output channels of each stage.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 128)) -> None:
        stages: list[nn.Module] = []
        for stage, (channels_in, channels_out) in enumerate(pairwise((3, *channels))):
            convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
            stages += [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
            if stage < len(channels) - 1:
                stages.append(nn.MaxPool2d(2))
        super().__init__(*stages)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the feature map.

        Args:
            images: float32 `(B, 3, H, W)`, normalised.

        Returns:
            float32 `(B, C, h, w)`.
        """
        return super().forward(images)
