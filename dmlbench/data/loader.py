"""From image files to batches: decode, resize, crop. The crop of each image has an independent random stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.data.decoded_cache import DecodedCache, decoded_cache
from dmlbench.data.resized_images import ErrorsAsText, ResizedImages
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.system.seeding import crop_stream, derive_seed

# A data set below this size is decoded once and kept in memory. A larger one is decoded every time, by several processes.
MEMORY_BYTES = 512 * 2**20

Transform = Callable[[torch.Tensor], torch.Tensor]
Resized = ResizedImages | DecodedCache  # resized images by id
Item = tuple[int, int]  # id of an image, and seed of its crop
WHOLE = slice(None)  # part of a batch that has all its images
Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 (B, 3, H, W), or float32 features (B, C); and ids, int64 (B,)


class CroppedImages(Dataset[tuple[torch.Tensor, int]]):
    """Resized and cropped images by id.

    Args:
        resized: Resized images, uint8 `(3, h, w)`, by id: decoded every time, or read from a cache.
        crop: Transform of a resized image.
        kept: Resized images by id that are kept in memory; it is filled on demand. None keeps no image.
    """

    def __init__(self, resized: Resized, crop: Transform, kept: dict[int, torch.Tensor] | None) -> None:
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
    """Batches of images under a protocol, for training and for embedding.

    Args:
        paths: Path of every image, in the order of the ids.
        protocol: Protocol, with sizes and crops.
        workers: Number of processes that load images. -1 chooses 0 for small data sets and one per CPU core for others.
        pin_memory: Whether to use pinned memory, for CUDA devices.
        boxes: float64 `(N, 4)`: x, y, width, height in pixels, to crop images to before resizing. None for whole images.
        cache: Directory of decoded caches. None decodes every image every time.
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
        from dmlbench.data.crops import center_crop, training_crop  # torchvision takes two seconds to import

        self.batch_size = protocol.batch_size
        self.pin_memory = pin_memory
        # 4 / 3 is the usual aspect ratio of photos.
        small = len(paths) * protocol.resized_px**2 * 3 * 4 / 3 <= MEMORY_BYTES
        self.workers = (0 if small else os.cpu_count() or 1) if workers < 0 else workers
        images = ResizedImages(paths, protocol.resized_px, boxes, protocol.exif_orientation == "applied")
        resized: Resized = images if cache is None else decoded_cache(images, cache, self.workers)
        kept: dict[int, torch.Tensor] | None = {} if small and self.workers == 0 and cache is None else None
        self._training = CroppedImages(resized, training_crop(protocol), kept)
        self._test = CroppedImages(resized, center_crop(protocol), kept)  # shares the kept images

    def training(
        self, ids_of_batches: Iterator[Sequence[int]], seed: int, first: int = 0, part: slice = WHOLE
    ) -> Iterator[Batch]:
        """Return randomly cropped batches.

        Args:
            ids_of_batches: Ids of the images of each batch.
            seed: Seed of the run.
            first: Number of the first batch. A crop depends only on seed, number of the batch and index in the batch.
            part: Part of each batch to return.
        """
        batches = (
            [(int(image_id), derive_seed(seed, "augment", step, index)) for index, image_id in [*enumerate(ids)][part]]
            for step, ids in enumerate(ids_of_batches, start=first)
        )
        yield from self._load(self._training, batches)

    def test(self, ids: Sequence[int]) -> Iterator[Batch]:
        """Return centre-cropped batches of some images, in the given order.

        Args:
            ids: Ids of the images.
        """
        size = self.batch_size
        batches = ([(int(image_id), 0) for image_id in ids[start : start + size]] for start in range(0, len(ids), size))
        yield from self._load(self._test, batches)

    def _load(self, images: CroppedImages, batches: Iterator[list[Item]]) -> Iterator[Batch]:
        # Workers are forked, because no other start method works in the processes of some launchers.
        loaded = DataLoader(
            ErrorsAsText(images),
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=self.pin_memory,
            multiprocessing_context="fork" if self.workers else None,
        )
        for batch in loaded:
            if isinstance(batch, str):  # a file that has been damaged since it was checked
                raise UserError(batch)
            yield batch


def make_batches(plan: Plan, split: Split) -> Batches:
    """Return the batches of a data set under a plan.

    Args:
        plan: Plan, with protocol, device, workers and cache.
        split: Data set.
    """
    boxes = split.boxes() if plan.protocol.crop_to_box else None
    # A frozen trunk sees each image once, so a cache would not pay off.
    cache = plan.caches if plan.dataset.cache == "memmap" and not plan.protocol.trunk_frozen else None
    return Batches(split.paths(), plan.protocol, plan.workers, plan.device == "cuda", boxes, cache)


class FeatureBatches:
    """Batches of precomputed features, with the interface of `Batches`.

    Args:
        features: float32 `(M, C)`.
        ids: int64 `(M,)`, ids of their images, ascending.
        batch_size: Batch size of `test`.
    """

    def __init__(self, features: torch.Tensor, ids: np.ndarray, batch_size: int) -> None:
        self.features = features
        self.ids = ids
        self.batch_size = batch_size

    def training(
        self, ids_of_batches: Iterator[Sequence[int]], seed: int, first: int = 0, part: slice = WHOLE
    ) -> Iterator[Batch]:
        """Return training batches. There is no augmentation.

        Args:
            ids_of_batches: Ids of the images of each batch.
            seed: Not used.
            first: Not used.
            part: Part of each batch to return.
        """
        for ids in ids_of_batches:
            yield self._batch(ids[part])

    def test(self, ids: Sequence[int]) -> Iterator[Batch]:
        """Return batches of the features of some images, in the given order.

        Args:
            ids: Ids of the images.
        """
        for start in range(0, len(ids), self.batch_size):
            yield self._batch(ids[start : start + self.batch_size])

    def _batch(self, ids: Sequence[int]) -> Batch:
        wanted = np.asarray(ids)
        return self.features[torch.from_numpy(np.searchsorted(self.ids, wanted))], torch.from_numpy(wanted)


AnyBatches = Batches | FeatureBatches


def to_device(batch: torch.Tensor, device: str) -> torch.Tensor:
    """Move a batch to a device; images are channels last in its memory.

    Args:
        batch: Images `(B, 3, H, W)` or features `(B, C)`.
        device: `cpu` or `cuda`.
    """
    layout = torch.channels_last if batch.ndim == 4 else torch.contiguous_format
    return batch.to(device, non_blocking=True, memory_format=layout)


def _collate(items: list[tuple[torch.Tensor, int] | str]) -> Batch | str:
    """Return a batch, or the first error message among its items."""
    images, ids = [], []
    for item in items:
        if isinstance(item, str):
            return item
        images.append(item[0].permute(1, 2, 0))
        ids.append(item[1])
    # Channels last in memory, as images are decoded and as the model expects them.
    return torch.stack(images).permute(0, 3, 1, 2), torch.tensor(ids)
