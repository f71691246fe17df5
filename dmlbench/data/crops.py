"""Transforms of torchvision that images pass before the model."""

from __future__ import annotations

from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from dmlbench.config.schema import Protocol


def resize(px: int) -> v2.Transform:
    """Return the transform that resizes the shorter side of an image, uint8 `(3, h, w)`.

    Args:
        px: Size of the shorter side after resizing, in pixels.
    """
    return v2.Resize(px, antialias=True)


def center_crop(protocol: Protocol) -> v2.Transform:
    """Return the crop of images that are embedded, from uint8 `(3, h, w)` to `(3, image_px, image_px)`.

    Args:
        protocol: Protocol with the size of the crop.
    """
    return v2.CenterCrop(protocol.image_px)


class _ResizedCrop(v2.RandomResizedCrop):
    """Torchvision's random resized crop with a contiguous copy of the crop, which it then resizes twice as fast."""

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        cropped = functional.crop(inpt, **params)[None].contiguous(memory_format=torch.channels_last)[0]
        return functional.resize(cropped, self.size, antialias=True)


def training_crop(protocol: Protocol) -> v2.Transform:
    """Return the random crop and flip of a protocol.

    Args:
        protocol: Protocol, with kind and size of the crop.

    Returns:
        A transform from a resized image, uint8 `(3, h, w)`, to uint8 `(3, image_px, image_px)`.
    """
    crops = {
        "random_resized": _ResizedCrop(protocol.image_px, scale=protocol.crop_scale, ratio=protocol.crop_ratio),
        "random": v2.RandomCrop(protocol.image_px),
        "center": center_crop(protocol),
    }
    crop = crops[protocol.train_crop]
    return v2.Compose([crop, v2.RandomHorizontalFlip(0.5)]) if protocol.flip else crop
