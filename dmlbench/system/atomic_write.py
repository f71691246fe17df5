"""Write files and directories so that they are either complete or absent, even after a crash or a power failure.

A writer holds a lock on its temporary file or directory, which the operating system releases however the process ends. A
temporary file that no process holds is therefore left over from a killed write.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

from dmlbench.errors import FileError
from dmlbench.system.locks import abandoned, owned

Content = str | bytes | Callable[[BinaryIO], object]
# The disk is full, or a quota or the largest size of a file is reached.
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TEMPORARY = re.compile(r"\..+\.(\d+|[0-9a-f]{8})\.tmp")  # earlier versions wrote the number of the process


class DiskFullError(FileError):
    """There is no space for a file. The text says which file, how much it needs, and how much is free.

    Args:
        error: What the system reported.
        path: The file or directory.
        need: Its size in bytes, as far as it is known.
    """

    def __init__(self, error: OSError, path: Path, need: int | None) -> None:
        super().__init__(error.errno, error.strerror, str(path))
        self._need = "" if need is None else f"; it needs at least {need:,} bytes"
        with suppress(OSError):
            self._need += f"{'; ' if need is None else ', and '}{shutil.disk_usage(path.parent).free:,}"
            self._need += " bytes are free" if need is None else " are free"

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {self.strerror}{self._need}"


def atomic_write(path: Path, content: Content) -> None:
    """Write a file through a temporary file in the same directory, which then replaces it.

    The data reach the disk before the rename, and the rename reaches the disk before this function returns: a file
    that was written later can rely on this one.

    Args:
        path: The file. Missing parent directories are created.
        content: Text (written as UTF-8), bytes, or a function that writes to a binary file, which cannot be read or rewound.

    Raises:
        DiskFullError: The disk is full. The previous file, if any, is unchanged.
        OSError: The file cannot be written for another reason. The previous file, if any, is unchanged.
    """
    output = _Output()
    with _errors_with_path(path, output):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, lambda name: name.touch(exist_ok=False)) as temporary:
            output.write_to(temporary, content)
            temporary.replace(path)
        _sync_directory(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Fill a temporary directory, which is renamed when the block ends without an error and removed otherwise.

    Files inside are not synchronised to the disk, because data sets have many; use `atomic_write` for those that have to be.

    Args:
        path: The directory. It must not exist.

    Yields:
        The temporary directory, next to `path`.

    Raises:
        DiskFullError: The disk is full.
    """
    with _errors_with_path(path), _temporary(path, lambda name: name.mkdir(parents=True)) as temporary:
        yield temporary
        temporary.rename(path)
        _sync_directory(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of writes of one file or directory. Those of a running process are kept.

    Args:
        path: The file or directory.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if _TEMPORARY.fullmatch(leftover.name):
            _remove_abandoned(leftover)


def remove_stale_temporaries(directory: Path, recursive: bool = True) -> list[Path]:
    """Remove the temporary files and directories of writes that were killed.

    Those of a running process are kept. Links are neither followed nor removed.

    Args:
        directory: Directory to search. It may be missing.
        recursive: Also search the directories below it.

    Returns:
        What was removed.
    """
    removed, left = [], [directory]
    while left:
        try:
            with os.scandir(left.pop()) as found:
                entries = list(found)
        except OSError:
            continue
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if not _TEMPORARY.fullmatch(entry.name):
                left += [Path(entry.path)] * (recursive and is_directory)
            elif (is_directory or entry.is_file(follow_symlinks=False)) and _remove_abandoned(Path(entry.path)):
                removed.append(Path(entry.path))
    return sorted(removed)


def _remove_abandoned(path: Path) -> bool:
    with abandoned(path) as is_abandoned:
        if is_abandoned:
            _remove(path)
    return is_abandoned and not path.exists()


@contextmanager
def _temporary(path: Path, create: Callable[[Path], object]) -> Iterator[Path]:
    """Create a file or directory next to a path, and remove it after the `with` block unless it was renamed.

    What a killed process left of the same write is removed before.
    """
    remove_leftovers(path)
    name = path

    def create_with_new_name() -> Path:
        nonlocal name
        name = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
        create(name)
        return name

    try:
        with owned(create_with_new_name) as temporary:
            yield temporary
    finally:
        if name != path:
            _remove(name)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


class _Output:
    """A binary file that counts its bytes, and remembers an error that the writing library may hide."""

    def __init__(self) -> None:
        self.size = 0
        self.error: OSError | None = None

    def write_to(self, path: Path, content: Content) -> None:
        """Write content to an empty file, and synchronise it to the disk."""
        # O_NOFOLLOW: nobody may have put a link there in the meantime.
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._file = os.fdopen(descriptor, "wb")
        try:
            if callable(content):
                content(cast(BinaryIO, self))
            else:
                self.write(content.encode() if isinstance(content, str) else content)
            self.flush()
            os.fsync(descriptor)
        finally:
            with suppress(OSError):  # closing writes what is left in the buffer, and fails again
                self._file.close()

    def write(self, data: bytes) -> int:
        """Write bytes, or an object with their buffer."""
        self.size += memoryview(data).nbytes
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Write the buffer to the file."""
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise

    def tell(self) -> int:
        """Return the number of bytes so far."""
        return self.size


@contextmanager
def _errors_with_path(path: Path, output: _Output | None = None) -> Iterator[None]:
    """Raise errors of a full disk with the path and the size, also if a library (such as torch) raised another error."""
    try:
        yield
    except Exception as raised:
        error = output.error if output is not None and output.error is not None else raised
        if not isinstance(error, OSError) or isinstance(error, DiskFullError):
            raise
        if error.errno in DISK_FULL:
            raise DiskFullError(error, path, output.size if output else None) from None
        if error.errno is not None and error.filename is None:
            error = OSError(error.errno, error.strerror, str(path))
        if error is raised:
            raise
        raise error from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
