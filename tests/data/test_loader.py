"""Crops are bit-equal to those of torchvision under the seed of each item, in any memory layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from dmlbench.config.schema import Protocol
from dmlbench.data.loader import Batches, FeatureBatches
from dmlbench.system.seeding import crop_stream, derive_seed, torch_stream

SIZES = [(50, 37), (41, 64), (40, 40), (300, 41)]  # width, height; the last is wider than the aspect ratio of any crop


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(len(SIZES))]
    for path, (width, height) in zip(paths, SIZES, strict=True):
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


def protocol(crop: str) -> Protocol:
    return Protocol(name="tiny", version=1, epochs=1, batch_size=4, embedding_dim=8, image_px=16, resize_px=24, train_crop=crop)


def resized(path: Path) -> torch.Tensor:
    """The image as torchvision resizes it, channels first in memory."""
    planes = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).contiguous()
    return v2.Resize(24, antialias=True)(planes).contiguous()


CROPS = {
    "random_resized": v2.RandomResizedCrop(16, scale=(0.16, 1.0), ratio=(0.75, 4 / 3), antialias=True),
    "random": v2.RandomCrop(16),
    "center": v2.CenterCrop(16),
}


@pytest.mark.parametrize("crop", list(CROPS))
def test_a_training_crop_is_that_of_torchvision_under_the_seed_of_the_item(paths: list[Path], crop: str) -> None:
    ids_of_batches = [[0, 1, 2, 3]] * 20
    plain = v2.Compose([CROPS[crop], v2.RandomHorizontalFlip(0.5)])
    for step, (images, ids) in enumerate(Batches(paths, protocol(crop)).training(iter(ids_of_batches), seed=5)):
        for index, image_id in enumerate(ids.tolist()):
            with torch_stream(derive_seed(5, "augment", step, index)):
                assert torch.equal(images[index], plain(resized(paths[image_id])))


def test_a_test_crop_is_that_of_torchvision(paths: list[Path]) -> None:
    [(images, _)] = list(Batches(paths, protocol("random")).test(range(4)))
    assert torch.equal(images, torch.stack([CROPS["center"](resized(path)) for path in paths]))


def test_a_batch_is_channels_last_in_memory(paths: list[Path]) -> None:
    batches = Batches(paths, protocol("random_resized"))
    for images, _ in [*batches.training(iter([[0, 1]]), seed=0), *batches.test([0, 1])]:
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_a_crop_restores_the_global_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    with crop_stream(7):
        torch.rand(5)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_crops_do_not_depend_on_the_number_of_workers_or_on_where_a_resumed_run_starts(paths: list[Path]) -> None:
    ids_of_batches = [[0, 1], [2, 3], [1, 1]]
    expected = [images for images, _ in Batches(paths, protocol("random_resized")).training(iter(ids_of_batches), seed=5)]
    loaded = [images for images, _ in Batches(paths, protocol("random_resized"), 2).training(iter(ids_of_batches), seed=5)]
    resumed = Batches(paths, protocol("random_resized")).training(iter(ids_of_batches[1:]), seed=5, first=1)
    assert all(torch.equal(one, other) for one, other in zip(expected, loaded, strict=True))
    assert all(torch.equal(one, other) for one, (other, _) in zip(expected[1:], resumed, strict=True))


def test_feature_batches_have_the_features_of_the_requested_ids() -> None:
    features = torch.tensor([[2.0], [5.0], [9.0]])
    batches = FeatureBatches(features, np.array([2, 5, 9]), batch_size=2)
    assert [(rows.tolist(), ids.tolist()) for rows, ids in batches.test([9, 2, 5])] == [
        ([[9.0], [2.0]], [9, 2]),
        ([[5.0]], [5]),
    ]
    [(rows, ids)] = list(batches.training(iter([[5, 5, 2]]), seed=0))
    assert (rows.flatten().tolist(), ids.tolist()) == ([5.0, 5.0, 2.0], [5, 5, 2])
