"""Raw pixels: the floor that needs neither a network nor training."""

from __future__ import annotations

import numpy as np
import torch

from dmlbench.models.backbones.raw_pixels import SIDE_PX, RawPixels


def test_a_vector_is_the_mean_of_each_cell_minus_the_mean_of_the_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 4 * SIDE_PX, 2 * SIDE_PX)).astype(np.float64)
    cells = images.reshape(3, 3, SIDE_PX, 4, SIDE_PX, 2).mean((3, 5))
    expected = (cells - cells.mean((2, 3), keepdims=True)).reshape(3, -1)
    np.testing.assert_allclose(RawPixels()(torch.from_numpy(images)).numpy(), expected, atol=1e-10)


def test_brightness_and_contrast_do_not_change_the_direction_of_the_vector() -> None:
    images = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    plain, changed = RawPixels()(images), RawPixels()(0.5 * images + 0.2)
    torch.testing.assert_close(torch.nn.functional.cosine_similarity(plain, changed), torch.ones(2))


def test_images_smaller_than_the_cells_are_accepted() -> None:
    assert RawPixels()(torch.zeros(1, 3, 8, 8)).shape == (1, 3 * SIDE_PX**2)
