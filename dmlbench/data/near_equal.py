"""Find test images that equal a training image, or nearly: the same photograph with another size, format or compression."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

CELLS = 8  # cells per side of a thumbnail
MAX_DIFFERENCE = 4  # of 255, in any channel of any cell; resizing and compression change a cell by less


def thumbnail(image: torch.Tensor) -> np.ndarray:
    """Return the mean colour of each cell of an image.

    Args:
        image: uint8 `(3, H, W)`.

    Returns:
        uint8 `(CELLS * CELLS * 3,)`.
    """
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    return np.asarray(pixels.resize((CELLS, CELLS), Image.Resampling.BILINEAR, reducing_gap=3.0)).ravel()


def find_near_equal(thumbnails: np.ndarray, train: np.ndarray, test: np.ndarray) -> list[tuple[int, int]]:
    """Find the test images whose thumbnail is that of a training image, up to `MAX_DIFFERENCE`.

    Args:
        thumbnails: uint8 `(N, D)`, of all images.
        train: int64 `(A,)`, ids of training images.
        test: int64 `(B,)`, ids of test images.

    Returns:
        Test image and training image of each, ascending.
    """
    if not len(train) or not len(test):
        return []
    from scipy.spatial import cKDTree  # imported here because it takes long, and is needed once per data set

    # Equal thumbnails, such as those of blank images, are searched once: a tree cannot separate them.
    of_train, first = np.unique(thumbnails[train], axis=0, return_index=True)
    of_test, inverse = np.unique(thumbnails[test], axis=0, return_inverse=True)
    distances, nearest = cKDTree(of_train.astype(np.float32)).query(
        of_test.astype(np.float32), p=np.inf, distance_upper_bound=MAX_DIFFERENCE + 0.5
    )
    return [
        (int(image), int(train[first[nearest[row]]]))
        for image, row in zip(test, inverse.ravel(), strict=True)
        if distances[row] <= MAX_DIFFERENCE
    ]
