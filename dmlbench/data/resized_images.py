"""Images by id as a protocol resizes them: what is cropped from in training and testing, and what a cache keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2

from dmlbench.data.images import read_image

VERSION = 1  # of how pixels come about; raised with every change that moves one


class ResizedImages(Dataset[torch.Tensor]):
    """Decoded images, cut to their boxes where there are any, resized so that the shorter side has a size.

    Args:
        paths: of every image, by id.
        px: the shorter side.
        boxes: float64 `(N, 4)`, x, y, width, height in pixels of the file; None for whole images.
    """

    def __init__(self, paths: Sequence[Path], px: int, boxes: np.ndarray | None = None) -> None:
        self.paths = paths
        self.px = px
        self.boxes = boxes
        self._resize = v2.Resize(px, antialias=True)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        """One image, uint8 `(3, h, w)`."""
        image = read_image(self.paths[image_id])
        return self._resize(image if self.boxes is None else cut(image, self.boxes[image_id]))


def cut(image: torch.Tensor, box: np.ndarray) -> torch.Tensor:
    """The part of an image that its box covers, rounded to whole pixels and never beyond the image or empty.

    Args:
        image: `(3, H, W)`.
        box: x, y, width, height.
    """
    height, width = image.shape[1:]
    x, y, box_width, box_height = box
    left, top = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    right, bottom = min(max(round(x + box_width), left + 1), width), min(max(round(y + box_height), top + 1), height)
    return image[:, top:bottom, left:right]
