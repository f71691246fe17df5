"""Locks between processes. The operating system releases a lock when its process ends, for whatever reason."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(file: Path, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold an exclusive lock during a `with` block.

    Args:
        file: The lock file. It is created with its parent directories; nothing is written to it.
        waiting: Called before waiting for another process. None does not wait.

    Yields:
        Whether the lock was acquired. Always True if `waiting` is given.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                yield False
                return
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield True


def is_held(file: Path) -> bool:
    """Return whether another process holds a lock, without waiting for it.

    The test takes a shared lock for a moment. A run that starts in this moment finds the lock held, and waits.

    Args:
        file: The lock file. A missing or unreadable file counts as not held.
    """
    try:
        with file.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the file does not exist, or may not be opened
        return False
    return False
