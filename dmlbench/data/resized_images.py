"""Decoded and resized images by id: the input of training and test crops, and the content of the decoded cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2

from dmlbench.data.images import read_image

VERSION = 1  # raised with every change that changes a pixel


class ResizedImages(Dataset[torch.Tensor]):
    """Decode images, crop them to their boxes if there are any, and resize the shorter side.

    Args:
        paths: Path of every image, in the order of the ids.
        px: Size of the shorter side after resizing, in pixels.
        boxes: float64 `(N, 4)`: x, y, width, height in pixels of the file. None for whole images.
    """

    def __init__(self, paths: Sequence[Path], px: int, boxes: np.ndarray | None = None) -> None:
        self.paths = paths
        self.px = px
        self.boxes = boxes
        self._resize = v2.Resize(px, antialias=True)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        """Return one image, uint8 `(3, h, w)`."""
        image = read_image(self.paths[image_id])
        return self._resize(image if self.boxes is None else crop_to_box(image, self.boxes[image_id]))


def crop_to_box(image: torch.Tensor, box: np.ndarray) -> torch.Tensor:
    """Crop an image to a box, rounded to whole pixels and clipped to the image. The result has at least one pixel.

    Args:
        image: `(3, H, W)`.
        box: `(4,)`: x, y, width, height in pixels.
    """
    height, width = image.shape[1:]
    x, y, box_width, box_height = box
    left, top = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    right, bottom = min(max(round(x + box_width), left + 1), width), min(max(round(y + box_height), top + 1), height)
    return image[:, top:bottom, left:right]
