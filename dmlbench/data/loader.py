"""From files to batches: decode, resize, crop; each image's crop is drawn from a stream of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.data.decoded_cache import DecodedCache, decoded_cache
from dmlbench.data.resized_images import ResizedImages
from dmlbench.data.split import Split
from dmlbench.system.seeding import crop_stream, derive_seed

# Decoded images of a small data set are kept in memory; a larger one is decoded anew, by several processes.
MEMORY_BYTES = 512 * 2**20

Resized = ResizedImages | DecodedCache  # images by id
Item = tuple[int, int]  # an image's id, and the seed of its crop
Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 (B, 3, H, W), or float32 features (B, C), and ids, int64 (B,)


class _ResizedCrop(v2.RandomResizedCrop):
    """Torchvision's own, which resizes twice as fast what lies without gaps in memory; a crop does only once it is copied."""

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        part = functional.crop(inpt, **params)[None].contiguous(memory_format=torch.channels_last)[0]
        return functional.resize(part, self.size, antialias=True)


def training_crop(protocol: Protocol) -> v2.Transform:
    """The protocol's random crop and flip, on an image that was resized before."""
    crops = {
        "random_resized": _ResizedCrop(protocol.image_px, scale=protocol.crop_scale, ratio=protocol.crop_ratio),
        "random": v2.RandomCrop(protocol.image_px),
        "center": v2.CenterCrop(protocol.image_px),
    }
    crop = crops[protocol.train_crop]
    return v2.Compose([crop, v2.RandomHorizontalFlip(0.5)]) if protocol.flip else crop


class Crops(Dataset[tuple[torch.Tensor, int]]):
    """Images by id, resized as the protocol says, then cropped.

    Args:
        resized: uint8 `(3, h, w)` by id: decoded anew each time, or from a cache.
        crop: of one image.
        kept: resized images by id, to look in first and to keep more in; None keeps none.
    """

    def __init__(self, resized: Resized, crop: v2.Transform, kept: dict[int, torch.Tensor] | None) -> None:
        self.resized = resized
        self.crop = crop
        self.kept = kept

    def __len__(self) -> int:
        return len(self.resized)

    def __getitem__(self, item: Item) -> tuple[torch.Tensor, int]:
        image_id, seed = item
        with crop_stream(seed):
            return self.crop(self._resized(image_id)), image_id

    def _resized(self, image_id: int) -> torch.Tensor:
        if self.kept is None:
            return self.resized[image_id]
        if image_id not in self.kept:
            self.kept[image_id] = self.resized[image_id]
        return self.kept[image_id]


class Batches:
    """The batches of a split's images under a protocol, for training and for embedding.

    Args:
        paths: of every image, by id.
        protocol: crop and sizes.
        workers: processes that load; -1 for as many as the images' number asks for.
        pin_memory: for a CUDA device.
        boxes: float64 `(N, 4)` to cut images to before they are resized; None for whole images.
        cache: the folder of decoded caches; None decodes each image each time.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        protocol: Protocol,
        workers: int = 0,
        pin_memory: bool = False,
        boxes: np.ndarray | None = None,
        cache: Path | None = None,
    ) -> None:
        self.protocol = protocol
        self.pin_memory = pin_memory
        # 4 / 3 is a photo's usual shape
        small = len(paths) * protocol.resized_px**2 * 3 * 4 / 3 <= MEMORY_BYTES
        self.workers = (0 if small else os.cpu_count() or 1) if workers < 0 else workers
        decoded = ResizedImages(paths, protocol.resized_px, boxes)
        resized: Resized = decoded if cache is None else decoded_cache(decoded, cache, self.workers)
        kept: dict[int, torch.Tensor] | None = {} if small and self.workers == 0 and cache is None else None
        self._training = Crops(resized, training_crop(protocol), kept)
        self._test = Crops(resized, v2.CenterCrop(protocol.image_px), kept)  # of the same resized images

    def training(self, plan_of_ids: Iterator[Sequence[int]], seed: int, first: int = 0) -> Iterator[Batch]:
        """Randomly cropped batches.

        Args:
            plan_of_ids: the ids of each batch, one batch after the other.
            seed: the run's.
            first: the number of the first batch; a crop depends on seed, batch and position in it alone.
        """
        batches = (
            [(int(image_id), derive_seed(seed, "augment", step, position)) for position, image_id in enumerate(ids)]
            for step, ids in enumerate(plan_of_ids, start=first)
        )
        yield from self._load(self._training, batches)

    def test(self, ids: Sequence[int]) -> Iterator[Batch]:
        """Centre-cropped batches of the images with these ids, in their order."""
        size = self.protocol.batch_size
        batches = ([(int(image_id), 0) for image_id in ids[start : start + size]] for start in range(0, len(ids), size))
        yield from self._load(self._test, batches)

    def _load(self, crops: Crops, batches: Iterator[list[Item]]) -> Iterator[Batch]:
        # The workers fork: a launcher that runs jobs in processes of its own allows no other start.
        yield from DataLoader(
            crops,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=self.pin_memory,
            multiprocessing_context="fork" if self.workers else None,
        )


def make_batches(plan: Plan, split: Split) -> Batches:
    """The plan's batches of a split's images."""
    boxes = split.boxes() if plan.protocol.crop_to_box else None
    # a frozen trunk sees each image once
    cache = plan.caches if plan.dataset.cache == "memmap" and not plan.protocol.trunk_frozen else None
    return Batches(split.paths(), plan.protocol, plan.workers, plan.device == "cuda", boxes, cache)


class FeatureBatches:
    """The batches of features that stand for images, with what `Batches` offers.

    Args:
        features: float32 `(M, C)`.
        ids: of their images, ascending, int64 `(M,)`.
        batch_size: of those for embedding.
    """

    def __init__(self, features: torch.Tensor, ids: np.ndarray, batch_size: int) -> None:
        self.features = features
        self.ids = ids
        self.batch_size = batch_size

    def training(self, plan_of_ids: Iterator[Sequence[int]], seed: int, first: int = 0) -> Iterator[Batch]:
        """The batches of a plan; nothing is drawn, so that seed and step decide nothing."""
        for ids in plan_of_ids:
            yield self._batch(ids)

    def test(self, ids: Sequence[int]) -> Iterator[Batch]:
        """Batches of the images with these ids, in their order."""
        for start in range(0, len(ids), self.batch_size):
            yield self._batch(ids[start : start + self.batch_size])

    def _batch(self, ids: Sequence[int]) -> Batch:
        wanted = np.asarray(ids)
        return self.features[torch.from_numpy(np.searchsorted(self.ids, wanted))], torch.from_numpy(wanted)


AnyBatches = Batches | FeatureBatches


def to_device(batch: torch.Tensor, device: str) -> torch.Tensor:
    """Images `(B, 3, H, W)` or features `(B, C)` on a device; the channels of a pixel lie together there."""
    layout = torch.channels_last if batch.ndim == 4 else torch.contiguous_format
    return batch.to(device, non_blocking=True, memory_format=layout)


def _collate(items: list[tuple[torch.Tensor, int]]) -> Batch:
    # The channels of a pixel together, as images come out of their files and as the model wants them.
    stacked = torch.stack([image.permute(1, 2, 0) for image, _ in items]).permute(0, 3, 1, 2)
    return stacked, torch.tensor([image_id for _, image_id in items])
