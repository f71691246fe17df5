"""The end of a process without freeing its objects, which takes Python a second after torch has been imported.

Python calls the functions of `atexit` in reverse order. The one that was registered first is called when everything else has
been done.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

_status: int | None = None


def prepare_to_leave() -> None:
    """Let `leave` end the process. To be called before the imports that register functions of their own."""
    atexit.register(_end)


def leave(status: int) -> NoReturn:
    """End the process like `sys.exit`, but free no object.

    Args:
        status: Exit status.
    """
    global _status
    _status = status
    sys.exit(status)


def leave_after_last_job() -> None:
    """Let a process of a launcher end without freeing its objects when the launcher has no more job for it."""
    atexit.unregister(os._exit)  # it runs several jobs
    atexit.register(os._exit, 0)


def _end() -> None:
    if _status is None:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # Python reports it
    os._exit(_status)
