"""The decoded cache: the resized images of a data set in one memory-mapped file that parallel jobs share."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from dmlbench.data.images import open_image
from dmlbench.data.resized_images import VERSION, ErrorsAsText, ResizedImages
from dmlbench.errors import UserError
from dmlbench.system import locks
from dmlbench.system.atomic_write import DISK_FULL, atomic_directory, atomic_write

PIXELS, INDEX, STAMP = "pixels.bin", "index.npy", "stamp.json"
LIBRARIES = ("pillow", "torch", "torchvision")
ADVICE = "free some space, set another directory with paths.data=DIRECTORY, or disable the cache with dataset.cache=none"


class DecodedCache:
    """Resized images by id, read from the directory of a cache.

    Args:
        folder: Directory that `decoded_cache` has written.

    Raises:
        OSError, ValueError, EOFError: The cache is incomplete.
    """

    def __init__(self, folder: Path) -> None:
        self._index = np.load(folder / INDEX)  # int64 (N, 3): offset, height, width
        offset, height, width = self._index[-1].tolist()
        # Read-only, because Linux requires that a writable mapping, even a private one, fits into memory.
        mapped = np.memmap(folder / PIXELS, dtype=np.uint8, mode="r", shape=(offset + height * width * 3,))
        with warnings.catch_warnings():
            # torch has no read-only tensors, and warns. Nothing here writes to this one.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._pixels = torch.from_numpy(mapped)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        """Return one image, uint8 `(3, h, w)`, as a view of the mapped file."""
        offset, height, width = self._index[image_id].tolist()
        return self._pixels[offset : offset + height * width * 3].view(height, width, 3).permute(2, 0, 1)


def decoded_cache(images: ResizedImages, store: Path, workers: int = 0) -> DecodedCache:
    """Open the cache of some images. It is written at the first call, and again if it is stale.

    If several processes call this at once, one writes and the others wait. A killed process leaves only a temporary
    directory, which the next call removes.

    Args:
        images: The images to cache.
        store: Directory of all caches. It is created if it does not exist.
        workers: Number of processes that decode; 0 decodes in this process.

    Raises:
        UserError: The disk is too small, the directory cannot be used, or an image cannot be read.
    """
    folder, stamp = store / name_of(images), stamp_of(images)
    try:
        with locked(folder):
            if not _is_fresh(folder, stamp):
                for leftover in (folder, *store.glob(f".{folder.name}.*.tmp")):
                    shutil.rmtree(leftover, ignore_errors=True)
                _write(images, folder, stamp, workers)
            return DecodedCache(folder)
    except OSError as error:
        raise UserError(f"the decoded cache {folder} cannot be used: {error.strerror or error}; {ADVICE}") from error


def name_of(images: ResizedImages) -> str:
    """Return the name of a cache, which digests paths, boxes, size and whether images are turned.

    If the content of a file changes, the name stays and the stamp changes: the cache is stale.

    Args:
        images: The images.
    """
    digest = hashlib.sha256("\n".join(map(os.path.abspath, images.paths)).encode())
    if images.boxes is not None:
        digest.update(images.boxes.tobytes())
    if images.upright:
        digest.update(b"upright")
    return f"{images.px}px-{digest.hexdigest()[:16]}"


def stamp_of(images: ResizedImages) -> str:
    """Return a digest of everything else that determines the pixels: the files' sizes and times, and library versions.

    Args:
        images: The images. Missing files are ignored; reading them raises later.
    """
    libraries = [f"{name} {version(name)}" for name in LIBRARIES]
    digest = hashlib.sha256(f"{VERSION} {libraries}".encode())
    for path in images.paths:
        try:
            status = path.stat()
        except OSError:
            continue
        digest.update(f"{status.st_size},{status.st_mtime_ns};".encode())
    return digest.hexdigest()


def _is_fresh(folder: Path, stamp: str) -> bool:
    """Return whether a cache exists, is complete, and was written from the files as they are now."""
    try:
        return json.loads((folder / STAMP).read_text(encoding="utf-8")) == {"stamp": stamp} and len(DecodedCache(folder)) > 0
    except (OSError, ValueError, EOFError):
        return False


def locked(path: Path) -> AbstractContextManager[bool]:
    """Hold the lock of a file or directory that several processes may want to write. The others wait.

    Args:
        path: The file or directory. The lock file is next to it.
    """

    def waiting() -> None:
        tqdm.write(f"the cache {path} is being written by another process; waiting for it", file=sys.stderr)

    return locks.locked(path.with_name(f".{path.name}.lock"), waiting)


def _decode(images: ResizedImages, workers: int) -> Iterator[torch.Tensor]:
    context = "fork" if workers else None
    loader = DataLoader(ErrorsAsText(images), batch_size=None, num_workers=workers, multiprocessing_context=context)
    for image in tqdm(loader, total=len(images), disable=None, unit="image", desc="decode images", leave=False):
        if isinstance(image, str):
            raise UserError(image)
        yield image


def _write(images: ResizedImages, folder: Path, stamp: str, workers: int) -> None:
    _refuse_small_disk(images, folder)
    index, offset = [], 0

    def write_pixels(out: BinaryIO) -> None:
        nonlocal offset
        for image in _decode(images, workers):
            out.write(image.permute(1, 2, 0).contiguous().numpy().data)
            index.append((offset, *image.shape[1:]))
            offset += image.numel()

    try:
        with atomic_directory(folder) as temporary:
            atomic_write(temporary / PIXELS, write_pixels)
            atomic_write(temporary / INDEX, lambda out: np.save(out, np.array(index, dtype=np.int64)))
            atomic_write(temporary / STAMP, json.dumps({"stamp": stamp}))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(_too_small(folder, f"{error.strerror} after {_format_bytes(offset)}")) from error


def _refuse_small_disk(images: ResizedImages, folder: Path) -> None:
    needed = sum(_bytes_of(images, image_id) for image_id in range(len(images)))
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise UserError(_too_small(folder, f"it needs {_format_bytes(needed)}, and {_format_bytes(free)} are free"))


def _bytes_of(images: ResizedImages, image_id: int) -> int:
    """Return the size of one resized image in bytes, from the header of its file."""
    if images.boxes is not None:
        width, height = images.boxes[image_id, 2:].tolist()
    else:
        try:
            with open_image(images.paths[image_id]) as image:
                width, height = image.size
        except UserError:
            return 0  # reading the image raises later
    shorter, longer = sorted((max(width, 1), max(height, 1)))
    return 3 * images.px * int(images.px * longer / shorter)


def _too_small(folder: Path, reason: str) -> str:
    return f"the decoded cache does not fit on the disk of {folder.parent}: {reason}; {ADVICE}"


def _format_bytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 / 100 else f"{n_bytes / 2**20:.2f} MiB"
