"""Locks between processes; the system lets go of one when its process ends, however it ends."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(file: Path, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock that a file stands for.

    Args:
        file: made if need be, with its folder; nothing is written into it.
        waiting: called before waiting for another process; None does not wait.

    Yields:
        Whether the lock is ours: always, where one waits.
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
    """Whether another process holds the lock that a file stands for.

    Asked without waiting, by sharing the lock for a moment; a run that starts within it finds another process at it, and waits.
    """
    try:
        with file.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it may not be opened
        return False
    return False
