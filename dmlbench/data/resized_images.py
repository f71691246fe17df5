"""Decoded and resized images by id: the input of training and test crops, and the content of the decoded cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from dmlbench.data.images import read_image
from dmlbench.errors import UserError

VERSION = 1  # raised with every change that changes a pixel


class ResizedImages(Dataset[torch.Tensor]):
    """Decode images, crop them to their boxes if there are any, and resize the shorter side.

    Args:
        paths: Path of every image, in the order of the ids.
        px: Size of the shorter side after resizing, in pixels.
        boxes: float64 `(N, 4)`: x, y, width, height in pixels of the file. None for whole images.
        upright: Turn each image as its EXIF orientation says.
    """

    def __init__(self, paths: Sequence[Path], px: int, boxes: np.ndarray | None = None, upright: bool = False) -> None:
        from dmlbench.data.crops import resize  # torchvision takes two seconds to import

        self.paths = paths
        self.px = px
        self.boxes = boxes
        self.upright = upright
        self._resize = resize(px)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        """Return one image, uint8 `(3, h, w)`."""
        box = None if self.boxes is None else self.boxes[image_id]
        return self._resize(read_image(self.paths[image_id], box, self.upright))


class ErrorsAsText(Dataset[Any]):
    """Items of a data set, or the message of a `UserError`: a worker process would wrap an exception into its traceback.

    Args:
        items: A data set with items by key.
    """

    def __init__(self, items: Dataset[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]  # all data sets here have a length

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.items[key]
        except UserError as error:
            return str(error)
