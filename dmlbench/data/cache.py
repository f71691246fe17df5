"""The decoded cache: a data set's images as a protocol resizes them, in one file that parallel jobs share."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from dmlbench.data.archive import new_folder
from dmlbench.data.resized import VERSION, ResizedImages
from dmlbench.errors import UserError

PIXELS, INDEX, STAMP = "pixels.bin", "index.npy", "stamp.json"


class DecodedCache:
    """Images from a cache's folder.

    Args:
        folder: as `decoded_cache` wrote it.
    """

    def __init__(self, folder: Path) -> None:
        self._index = np.load(folder / INDEX)  # int64 (N, 3): offset, height, width
        # Copy on write, which nobody does: a read-only array would make torch warn.
        self._pixels = np.memmap(folder / PIXELS, dtype=np.uint8, mode="c")

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, image_id: int) -> torch.Tensor:
        """One image, uint8 `(3, h, w)`; its pages are read when they are looked at."""
        offset, height, width = self._index[image_id].tolist()
        flat = self._pixels[offset : offset + height * width * 3]
        return torch.from_numpy(flat.reshape(height, width, 3)).permute(2, 0, 1)


def decoded_cache(images: ResizedImages, store: Path, workers: int = 0) -> DecodedCache:
    """Open a cache, which is written at the first call and again when it is stale.

    Of several processes one writes and the others wait. A killed one leaves only a temporary folder, which the next removes.

    Args:
        images: what to keep.
        store: the folder of all caches, made if need be.
        workers: processes that decode.

    Raises:
        UserError: the disk is too small.
    """
    folder = store / _name(images)
    stamp = _stamp(images)
    store.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if not _fresh(folder, stamp):
            for leftover in (folder, *store.glob(f".{folder.name}.*.tmp")):
                shutil.rmtree(leftover, ignore_errors=True)
            _write(images, folder, stamp, workers)
        return DecodedCache(folder)


def _name(images: ResizedImages) -> str:
    """What the cache is of: files, boxes and size; a change of the files' content makes it stale, not another."""
    digest = hashlib.sha256("\n".join(map(str, images.paths)).encode())
    if images.boxes is not None:
        digest.update(images.boxes.tobytes())
    return f"{images.px}px-{digest.hexdigest()[:16]}"


def _stamp(images: ResizedImages) -> str:
    digest = hashlib.sha256(f"{VERSION}".encode())
    for path in images.paths:
        found = path.stat()
        digest.update(f"{found.st_size},{found.st_mtime_ns};".encode())
    return digest.hexdigest()


def _fresh(folder: Path, stamp: str) -> bool:
    file = folder / STAMP
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")) == {"stamp": stamp}


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _write(images: ResizedImages, folder: Path, stamp: str, workers: int) -> None:
    _refuse_small_disk(images, folder)
    loaded = DataLoader(images, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None)
    index, offset = [], 0
    try:
        with new_folder(folder) as temporary:
            with (temporary / PIXELS).open("wb") as out:
                for image in tqdm(loaded, total=len(images), disable=None, unit="image", desc="decode once", leave=False):
                    out.write(image.permute(1, 2, 0).contiguous().numpy().data)
                    index.append((offset, *image.shape[1:]))
                    offset += image.numel()
            np.save(temporary / INDEX, np.array(index, dtype=np.int64))
            (temporary / STAMP).write_text(json.dumps({"stamp": stamp}), encoding="utf-8")
    except OSError as error:
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
        with Image.open(images.paths[image_id]) as image:
            width, height = image.size
    shorter, longer = sorted((max(width, 1), max(height, 1)))
    return 3 * images.px * int(images.px * longer / shorter)


def _too_small(folder: Path, how: str) -> str:
    return (
        f"the decoded cache does not fit on the disk of {folder.parent}: {how}; make room, give another place with "
        "paths.data=FOLDER, or do without it with dataset.cache=none"
    )


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 / 100 else f"{n_bytes / 2**20:.2f} MiB"
