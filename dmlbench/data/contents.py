"""SHA-256 of the contents of image files, remembered by path and status: size, times and inode number."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from dmlbench.data.images import open_file
from dmlbench.data.split import Split
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.regular_files import read_json

UNREADABLE = ""  # instead of a digest
MAX_STORE_BYTES = 2**30
# Reading and hashing release the interpreter's lock. Some threads wait for the disk while others hash.
THREADS = min(8, max(4, os.cpu_count() or 1))
FILES_PER_TASK = 64
BUFFER_BYTES = 2**20

FileStatus = tuple[int, int, int, int]
_Known = dict[str, tuple[FileStatus, str]]  # path relative to the root: status and digest


@dataclass(frozen=True)
class Hashed:
    """A split with the digests of its images.

    Args:
        split: The split, whose frame has the column `content`.
        changed: Relative paths of the images whose content changed although their status did not; only found if every file is
            hashed again.
    """

    split: Split
    changed: tuple[str, ...] = ()


def hash_contents(split: Split, store: Path, again: bool = False) -> Hashed:
    """Hash the contents of all images of a split. A file is hashed again only if its status has changed; see `file_status`.

    Args:
        split: Data set.
        store: Directory of remembered digests, one file per root. It need not exist, nor be writable.
        again: Hash every file, whatever is remembered.
    """
    file = store / f"{hashlib.sha256(os.path.abspath(split.root).encode(errors='surrogateescape')).hexdigest()[:16]}.json"
    known, paths = _read(file), split.paths()
    names = [str(name) for name in split.frame["path"]]
    status = [file_status(path) for path in paths]
    digests = [_remembered(known.get(name), now) for name, now in zip(names, status, strict=True)]
    needed = [index for index, digest in enumerate(digests) if again or digest is None]
    fresh = dict(zip(needed, _hash_files([paths[index] for index in needed]), strict=True))
    changed = tuple(names[index] for index, digest in fresh.items() if digests[index] not in (None, digest))
    contents = [fresh[index] if index in fresh else digests[index] or UNREADABLE for index in range(len(names))]
    learned = {
        names[index]: (*now, digest)
        for index, digest in fresh.items()
        if digest != UNREADABLE and (now := status[index]) is not None
    }
    if learned and not _is_temporary(split.root):
        with suppress(OSError):  # a read-only directory: the files are hashed again the next time
            atomic_write(file, json.dumps({"root": str(split.root), "files": known | learned}))
    return Hashed(replace(split, frame=split.frame.assign(content=contents)), changed)


def _read(file: Path) -> _Known:
    """Return what is remembered; nothing if the file is missing, damaged, or has fewer fields, as in earlier versions."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return {
            str(name): ((int(size), int(modified), int(changed), int(inode)), str(digest))
            for name, (size, modified, changed, inode, digest) in read_json(file, MAX_STORE_BYTES)["files"].items()
        }
    return {}


def _is_temporary(root: Path) -> bool:
    """Whether a directory is one that `atomic_directory` renames or removes."""
    return any(part.startswith(".") and part.endswith(".tmp") for part in root.parts)


def file_status(path: Path) -> FileStatus | None:
    """Return what changes if a file is written, replaced or renamed; None if the file is missing or inaccessible.

    Renaming keeps size, modification time and inode number, and setting the modification time is possible. Both change the
    time of the status.

    Args:
        path: The file. Links are followed.

    Returns:
        Size in bytes, times of the last modification and of the last change of the status in ns, and inode number.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _remembered(known: tuple[FileStatus, str] | None, now: FileStatus | None) -> str | None:
    return known[1] if known is not None and known[0] == now else None


def _hash_files(paths: Sequence[Path]) -> list[str]:
    parts = [paths[start : start + FILES_PER_TASK] for start in range(0, len(paths), FILES_PER_TASK)]
    digests: list[str] = []
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(paths), disable=None, unit="image", desc="hash images", leave=False) as bar,
    ):
        for found in pool.map(_hash_each, parts):
            digests += found
            bar.update(len(found))
    return digests


def _hash_each(paths: Sequence[Path]) -> list[str]:
    buffer = bytearray(BUFFER_BYTES)
    return [_hash_file(path, memoryview(buffer)) for path in paths]


def _hash_file(path: Path, buffer: memoryview) -> str:
    digest = hashlib.sha256()
    try:
        with open_file(path) as file:
            while size := file.readinto(buffer):  # type: ignore[attr-defined]  # an unbuffered file
                digest.update(buffer[:size])
    except OSError:
        return UNREADABLE
    return digest.hexdigest()
