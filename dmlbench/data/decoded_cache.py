"""The decoded cache: the resized images of a data set in one memory-mapped file that parallel jobs share."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from dmlbench.data.contents import file_status
from dmlbench.data.images import open_image
from dmlbench.data.resized_images import VERSION, ErrorsAsText, ResizedImages
from dmlbench.errors import UserError
from dmlbench.system import locks
from dmlbench.system.atomic_write import DISK_FULL, atomic_directory, atomic_write
from dmlbench.system.regular_files import open_regular, read_bytes, read_json

PIXELS, INDEX, STAMP = "pixels.bin", "index.npy", "stamp.json"
FORMAT = 2  # of the files of a cache
MAX_INDEX_BYTES = 2**31  # of 60 million images
LIBRARIES = ("pillow", "torch", "torchvision")
ADVICE = "free some space, set another directory with paths.data=DIRECTORY, or disable the cache with dataset.cache=none"


class DecodedCache:
    """Resized images by id, read from the directory of a cache.

    Args:
        folder: Directory that `decoded_cache` has written.
        index: int64 `(N, 4)`: first byte, height, width and CRC-32 of each image.

    Raises:
        OSError: The pixels are missing, or not a regular file.
        ValueError: Index and pixels do not fit together.
    """

    def __init__(self, folder: Path, index: np.ndarray) -> None:
        self._folder, self._index = folder, index
        with open_regular(folder / PIXELS) as file:
            if os.fstat(file.fileno()).st_size != _size_bytes(index):
                raise ValueError("the file of pixels does not have the size that its index declares")
            # Read-only, because Linux requires that a writable mapping, even a private one, fits into memory.
            self._bytes = np.memmap(file, dtype=np.uint8, mode="r")
        with warnings.catch_warnings():
            # torch has no read-only tensors, and warns. Nothing here writes to this one.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._pixels = torch.from_numpy(self._bytes)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        """Return one image, uint8 `(3, h, w)`, as a view of the mapped file.

        Args:
            image_id: Id of the image.

        Raises:
            UserError: The image does not have its checksum.
        """
        begin, height, width, checksum = self._index[image_id].tolist()
        end = begin + height * width * 3
        if zlib.crc32(self._bytes[begin:end].data) != checksum:
            raise UserError(
                f"the decoded cache {self._folder} is damaged: image {image_id} does not have its checksum; remove this "
                "directory, and run the same command again"
            )
        return self._pixels[begin:end].view(height, width, 3).permute(2, 0, 1)


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
            cache = _open(folder, stamp, len(images))
            if cache is None:
                for leftover in (folder, *store.glob(f".{folder.name}.*.tmp")):
                    shutil.rmtree(leftover, ignore_errors=True)
                index = _write(images, folder, stamp, workers)
                cache = DecodedCache(folder, index)
            return cache
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
    """Return a digest of everything else that determines the pixels: the status of the files, and library versions.

    Args:
        images: The images. Missing files are ignored; reading them raises later.
    """
    libraries = [f"{name} {version(name)}" for name in LIBRARIES]
    digest = hashlib.sha256(f"{FORMAT} {VERSION} {libraries}".encode())
    for path in images.paths:
        if (status := file_status(path)) is not None:
            digest.update(f"{status};".encode())
    return digest.hexdigest()


def _open(folder: Path, stamp: str, n_images: int) -> DecodedCache | None:
    """Open a cache; None if it is missing, stale or damaged."""
    if not folder.is_dir():
        return None
    try:
        stamped = read_json(folder / STAMP)
        if stamped["stamp"] != stamp:
            return None
        return DecodedCache(folder, _read_index(folder / INDEX, str(stamped["index_sha256"]), n_images))
    except (OSError, ValueError, EOFError, TypeError, KeyError):
        tqdm.write(f"the decoded cache {folder} is damaged; it is written again", file=sys.stderr)
        return None


def _read_index(file: Path, sha256: str, n_images: int) -> np.ndarray:
    content = read_bytes(file, MAX_INDEX_BYTES)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("the index does not have its checksum")
    index = np.load(io.BytesIO(content), allow_pickle=False)
    if index.dtype != np.int64 or index.shape != (n_images, 4):
        raise ValueError("the index does not describe these images")
    return index


def _size_bytes(index: np.ndarray) -> int:
    """Return the size of the file of pixels, in which images follow each other without gaps."""
    end = 0
    for begin, height, width, _ in index.tolist():
        if begin != end or height < 1 or width < 1:
            raise ValueError("the index contains overlapping or empty images")
        end += height * width * 3
    return end


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


def _write(images: ResizedImages, folder: Path, stamp: str, workers: int) -> np.ndarray:
    """Write a cache, and return its index."""
    _refuse_small_disk(images, folder)
    entries, offset = [], 0

    def write_pixels(out: BinaryIO) -> None:
        nonlocal offset
        for image in _decode(images, workers):
            pixels = image.permute(1, 2, 0).contiguous().numpy().data
            out.write(pixels)
            entries.append((offset, *image.shape[1:], zlib.crc32(pixels)))
            offset += image.numel()

    try:
        with atomic_directory(folder) as temporary:
            atomic_write(temporary / PIXELS, write_pixels)
            index, content = np.array(entries, dtype=np.int64), io.BytesIO()
            np.save(content, index)
            atomic_write(temporary / INDEX, content.getvalue())
            stamped = {"stamp": stamp, "index_sha256": hashlib.sha256(content.getvalue()).hexdigest()}
            atomic_write(temporary / STAMP, json.dumps(stamped))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(_too_small(folder, f"{error.strerror} after {_format_bytes(offset)}")) from error
    return index


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
