"""Write files and directories so that they are either complete or absent, even after a crash or a power failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

Content = str | bytes | Callable[[BinaryIO], object]


def atomic_write(path: Path, content: Content) -> None:
    """Write a file through a temporary file in the same directory, which then replaces it.

    The data reach the disk before the rename, and the rename reaches the disk before this function returns: a file
    that was written later can rely on this one.

    Args:
        path: The file. Missing parent directories are created.
        content: Text (written as UTF-8), bytes, or a function that writes to the open binary file.

    Raises:
        OSError: The file cannot be written. The previous file, if any, is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Fill a temporary directory, which is renamed when the block ends without an error and removed otherwise.

    Files inside are not synchronised to the disk, because data sets have many; use `atomic_write` for those that have to be.

    Args:
        path: The directory. It must not exist.

    Yields:
        The temporary directory, next to `path`.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
        _sync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
