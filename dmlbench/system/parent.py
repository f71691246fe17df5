"""Processes that end with the process that started them."""

from __future__ import annotations

import os
import threading
import time

_watched: set[int | None] = set()  # parents that a thread watches already, because a process runs several jobs


def end_with_parent(parent: int | None) -> None:
    """End this process soon after its parent, so that it does not continue runs whose command has ended.

    Args:
        parent: Number of the parent process.
    """
    if parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # the system releases the lock of the run; all files are written atomically

    if os.getppid() != parent:  # the parent ended before the first job started
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()
