"""Locks between processes. The operating system releases a lock when its process ends, for whatever reason."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dmlbench.system.regular_files import regular_descriptor

_OPEN: set[int] = set()  # descriptors of locks of this process


def _close_in_child() -> None:
    """Close the locks of the parent process, which would otherwise be held until the child ends too."""
    for descriptor in _OPEN:
        os.close(descriptor)
    _OPEN.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextmanager
def _open_until_the_end(descriptor: int) -> Iterator[int]:
    _OPEN.add(descriptor)
    try:
        yield descriptor
    finally:
        if descriptor in _OPEN:  # a child process has closed its copy
            _OPEN.discard(descriptor)
            os.close(descriptor)


@contextmanager
def locked(file: Path, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold an exclusive lock during a `with` block.

    Args:
        file: The lock file. It is created with its parent directories; nothing is written to it.
        waiting: Called before waiting for another process. None does not wait.

    Yields:
        Whether the lock was acquired. Always True if `waiting` is given.

    Raises:
        NotARegularFileError: The lock file is a link or another special file.
        OSError: It cannot be opened.
    """
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _open_until_the_end(regular_descriptor(file, os.O_RDWR | os.O_CREAT)) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    yield False
                    return
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:  # a refused run removes its directory, with the lock in it
                yield True
                return


def is_held(file: Path) -> bool:
    """Return whether another process holds a lock, without waiting for it.

    The test takes a shared lock for a moment. A run that starts in this moment finds the lock held, and waits.

    Args:
        file: The lock file. A missing, unreadable or special file counts as not held.
    """
    try:
        with _open_until_the_end(regular_descriptor(file)) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file does not exist, or may not be opened
        return False
    return False


@contextmanager
def owned(create: Callable[[], Path]) -> Iterator[Path]:
    """Create a temporary file or directory, and show during a `with` block that this process uses it.

    Args:
        create: Creates it under a new name, and returns its path.

    Yields:
        The path.
    """
    while True:
        path = create()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # another process took it for abandoned before it was locked
            continue
        with _open_until_the_end(descriptor):
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_nlink:
                yield path
                return


@contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Take what `owned` created, if the process that created it has ended.

    Args:
        path: A file or directory.

    Yields:
        Whether no process uses it. False if this cannot be determined.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    with _open_until_the_end(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            free = False
        else:
            free = True
        yield free
