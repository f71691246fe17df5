"""Resized images in one file, written once and read by every job: `dataset.cache=memmap`.

A cache is a folder `<key>/` of three files:

    pixels.bin     the images, by id, one after the other: uint8 `(h, w, 3)` each
    index.npy      int64 `(N, 3)`: where an image starts, its height, its width
    made.json      what it was made of; another content here means that it is stale

The key covers what is asked (paths and the resizer's recipe), `made.json` what may change behind one's back: the files' sizes
and times, and the libraries. So a changed file has its cache written again, in the same place.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dmlbench.data.images import ResizedImages
from dmlbench.errors import UserError

PIXELS, INDEX, MADE = "pixels.bin", "index.npy", "made.json"
LIBRARIES = ("pillow", "torch", "torchvision")  # whose decoder and resizer made the pixels
SAMPLED = 64  # images whose mean size tells the size of all


class CachedImages:
    """The images of a complete cache: views of a file mapped into memory, of which only the rows in use are read.

    Args:
        folder: of the cache.

    Raises:
        OSError, ValueError, EOFError: it is not complete.
    """

    def __init__(self, folder: Path) -> None:
        self.index = np.load(folder / INDEX)
        start, height, width = self.index[-1]
        mapped = np.memmap(folder / PIXELS, np.uint8, mode="r", shape=(int(start + 3 * height * width),))
        with warnings.catch_warnings():
            # Mapped without the right to write: torch warns that it cannot say so of a tensor. Nothing here writes in place.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.pixels = torch.from_numpy(mapped)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        start, height, width = self.index[image_id].tolist()
        return self.pixels[start : start + 3 * height * width].view(height, width, 3).permute(2, 0, 1)


def cached(images: ResizedImages, caches: Path, workers: int = 0) -> CachedImages:
    """Open the cache of a data set's images, written first where there is none or a stale one.

    Of several processes one writes, and the others wait for it. A writer that was killed leaves a folder `.<key>.tmp`, which
    the next one removes.

    Args:
        images: what to cache; its images are read where the cache is written.
        caches: the folder of all caches, made if need be.
        workers: processes that decode while it is written; 0 for this one.

    Returns:
        The same images as `images`, pixel for pixel.

    Raises:
        UserError: the disk is too small, the folder cannot be written, or an image cannot be read. Nothing is left behind.
    """
    folder, made = caches / _key(images), _made(images)
    try:
        with _locked(folder):
            if not _fresh(folder, made):
                _write(images, folder, made, workers)
            return CachedImages(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason += f"; it needs about {_gib(_estimated_bytes(images))}"
        raise UserError(f"the decoded cache {folder} cannot be used: {reason}; {_ways_out(images)}") from None


def _key(images: ResizedImages) -> str:
    paths = [os.path.abspath(path) for path in images.paths]
    return hashlib.sha256(json.dumps([images.recipe, paths], sort_keys=True).encode()).hexdigest()[:16]


def _made(images: ResizedImages) -> str:
    """What a cache of these images, as they are now, says of itself."""
    stats = hashlib.sha256()
    for path in images.paths:
        try:
            stat = path.stat()
        except OSError:
            continue  # an image that cannot be read is refused by its reader, who says why
        stats.update(f"{path}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    versions = {name: version(name) for name in LIBRARIES}
    made = {"recipe": images.recipe, "images": len(images), "sizes_and_times": stats.hexdigest(), "versions": versions}
    return json.dumps(made, indent=1) + "\n"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of one cache; the system lets go of it when the process ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tqdm.write(f"the decoded cache {folder} is in another process's hands; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fresh(folder: Path, made: str) -> bool:
    try:
        return (folder / MADE).read_text(encoding="utf-8") == made and len(CachedImages(folder)) > 0
    except (OSError, ValueError, EOFError):  # there is none, or someone cut it short
        return False


def _write(images: ResizedImages, folder: Path, made: str, workers: int) -> None:
    """Write a cache under another name, and rename it when it is complete. The lock is ours, so is any leftover."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    for leftover in (temporary, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    needed, free = _estimated_bytes(images), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise UserError(
            f"the decoded cache of {len(images):,} images needs about {_gib(needed)}, but {folder.parent} has"
            f" {_gib(free)} free; {_ways_out(images)}"
        )
    try:
        temporary.mkdir()
        np.save(temporary / INDEX, _write_pixels(temporary / PIXELS, _decoded(images, workers), len(images)))
        (temporary / MADE).write_text(made, encoding="utf-8")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_pixels(path: Path, images: Iterable[torch.Tensor], count: int) -> np.ndarray:
    """Write images one after the other, and return the index."""
    index, start = np.empty((count, 3), np.int64), 0
    with path.open("wb") as file:
        for image_id, image in enumerate(tqdm(images, total=count, disable=None, unit="image", desc="cache", leave=False)):
            index[image_id] = start, *image.shape[1:]
            start += file.write(image.permute(1, 2, 0).contiguous().numpy().data)
        file.flush()
        os.fsync(file.fileno())  # else a power cut could leave a whole name with half its content
    return index


class _Tried(Dataset[torch.Tensor | str]):
    """Images, or the sentence of one that cannot be read: a loading process would wrap an error into its traceback."""

    def __init__(self, images: ResizedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, image_id: int) -> torch.Tensor | str:
        try:
            return self.images[image_id]
        except UserError as error:
            return str(error)


def _decoded(images: ResizedImages, workers: int) -> Iterator[torch.Tensor]:
    context = "fork" if workers else None
    for image in DataLoader(_Tried(images), batch_size=None, num_workers=workers, multiprocessing_context=context):
        if isinstance(image, str):
            raise UserError(image)
        yield image


def _estimated_bytes(images: ResizedImages) -> int:
    """The size of a cache, from images spread evenly over the data set."""
    ids = np.unique(np.linspace(0, len(images) - 1, SAMPLED).round().astype(int)).tolist()
    return round(len(images) * sum(images[image_id].numel() for image_id in ids) / len(ids))


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _ways_out(images: ResizedImages) -> str:
    return (
        "make room, name a folder on another disk with paths.data=FOLDER, resize to less than"
        f" protocol.resize_px={images.shorter_px}, or go without: dataset.cache=none"
    )
