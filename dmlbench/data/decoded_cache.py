"""The decoded cache: a data set's images as a protocol resizes them, in one file that parallel jobs share."""

from __future__ import annotations

import errno
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
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dmlbench.data.images import BROKEN
from dmlbench.data.resized_images import VERSION, ResizedImages
from dmlbench.errors import UserError
from dmlbench.system import locks
from dmlbench.system.atomic_write import atomic_directory, atomic_write

PIXELS, INDEX, STAMP = "pixels.bin", "index.npy", "stamp.json"
LIBRARIES = ("pillow", "torch", "torchvision")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WAYS_OUT = "make room, give another place with paths.data=FOLDER, or do without it with dataset.cache=none"


class DecodedCache:
    """Images from a cache's folder.

    Args:
        folder: as `decoded_cache` wrote it.

    Raises:
        OSError, ValueError, EOFError: it is not whole.
    """

    def __init__(self, folder: Path) -> None:
        self._index = np.load(folder / INDEX)  # int64 (N, 3): offset, height, width
        offset, height, width = self._index[-1].tolist()
        # Read-only: of a mapping that may be written, if only for oneself, the system demands that it fit into memory.
        mapped = np.memmap(folder / PIXELS, dtype=np.uint8, mode="r", shape=(offset + height * width * 3,))
        with warnings.catch_warnings():
            # torch cannot say of a tensor that it may not be written, and warns; nothing here does
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._pixels = torch.from_numpy(mapped)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        """One image, uint8 `(3, h, w)`; its pages are read when they are looked at."""
        offset, height, width = self._index[image_id].tolist()
        return self._pixels[offset : offset + height * width * 3].view(height, width, 3).permute(2, 0, 1)


def decoded_cache(images: ResizedImages, store: Path, workers: int = 0) -> DecodedCache:
    """Open a cache, which is written at the first call and again when it is stale.

    Of several processes one writes and the others wait. A killed one leaves only a temporary folder, which the next removes.

    Args:
        images: what to keep.
        store: the folder of all caches, made if need be.
        workers: processes that decode.

    Raises:
        UserError: the disk is too small, the place cannot be used, or an image cannot be read.
    """
    folder, stamp = store / name_of(images), stamp_of(images)
    try:
        with locked(folder):
            if not _fresh(folder, stamp):
                for leftover in (folder, *store.glob(f".{folder.name}.*.tmp")):
                    shutil.rmtree(leftover, ignore_errors=True)
                _write(images, folder, stamp, workers)
            return DecodedCache(folder)
    except OSError as error:
        raise UserError(f"the decoded cache {folder} cannot be used: {error.strerror or error}; {WAYS_OUT}") from error


def name_of(images: ResizedImages) -> str:
    """What the cache is of: files, boxes and size; a change of the files' content makes it stale, not another."""
    digest = hashlib.sha256("\n".join(map(os.path.abspath, images.paths)).encode())
    if images.boxes is not None:
        digest.update(images.boxes.tobytes())
    return f"{images.px}px-{digest.hexdigest()[:16]}"


def stamp_of(images: ResizedImages) -> str:
    """What the pixels come from, as it is now: the files, and whose decoder and resizer read them."""
    libraries = [f"{name} {version(name)}" for name in LIBRARIES]
    digest = hashlib.sha256(f"{VERSION} {libraries}".encode())
    for path in images.paths:
        try:
            found = path.stat()
        except OSError:
            continue  # whoever reads it will say why it cannot be read
        digest.update(f"{found.st_size},{found.st_mtime_ns};".encode())
    return digest.hexdigest()


def _fresh(folder: Path, stamp: str) -> bool:
    """Whether a cache is there, whole, and of the files as they are now."""
    try:
        return json.loads((folder / STAMP).read_text(encoding="utf-8")) == {"stamp": stamp} and len(DecodedCache(folder)) > 0
    except (OSError, ValueError, EOFError):
        return False


def locked(place: Path) -> AbstractContextManager[bool]:
    """Hold the lock of a file or folder that several processes may want to write; the others wait."""

    def waiting() -> None:
        tqdm.write(f"the cache {place} is in another process's hands; waiting for it", file=sys.stderr)

    return locks.locked(place.with_name(f".{place.name}.lock"), waiting)


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
    loaded = DataLoader(_Tried(images), batch_size=None, num_workers=workers, multiprocessing_context=context)
    for image in tqdm(loaded, total=len(images), disable=None, unit="image", desc="decode once", leave=False):
        if isinstance(image, str):
            raise UserError(image)
        yield image


def _write(images: ResizedImages, folder: Path, stamp: str, workers: int) -> None:
    _refuse_small_disk(images, folder)
    index, offset = [], 0

    def write_pixels(out: BinaryIO) -> None:
        nonlocal offset
        for image in _decoded(images, workers):
            out.write(image.permute(1, 2, 0).contiguous().numpy().data)
            index.append((offset, *image.shape[1:]))
            offset += image.numel()

    try:
        with atomic_directory(folder) as temporary:
            atomic_write(temporary / PIXELS, write_pixels)
            atomic_write(temporary / INDEX, lambda out: np.save(out, np.array(index, dtype=np.int64)))
            atomic_write(temporary / STAMP, json.dumps({"stamp": stamp}))
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(_too_small(folder, f"{error.strerror} after {_gib(offset)}")) from error


def _refuse_small_disk(images: ResizedImages, folder: Path) -> None:
    needed = sum(_bytes_of(images, image_id) for image_id in range(len(images)))
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise UserError(_too_small(folder, f"it needs {_gib(needed)}, and {_gib(free)} are free"))


def _bytes_of(images: ResizedImages, image_id: int) -> int:
    """How large an image will be, from its file's header."""
    if images.boxes is not None:
        width, height = images.boxes[image_id, 2:].tolist()
    else:
        try:
            with Image.open(images.paths[image_id]) as image:
                width, height = image.size
        except BROKEN:
            return 0  # whoever reads it will say why it cannot be read
    shorter, longer = sorted((max(width, 1), max(height, 1)))
    return 3 * images.px * int(images.px * longer / shorter)


def _too_small(folder: Path, how: str) -> str:
    return f"the decoded cache does not fit on the disk of {folder.parent}: {how}; {WAYS_OUT}"


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 / 100 else f"{n_bytes / 2**20:.2f} MiB"
