"""The end of a process without freeing its objects, which takes Python a second after torch has been imported.

Python calls the functions of `atexit` in reverse order. One that is registered before other modules are imported is called
after all that these have registered.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import NoReturn

_status: int | None = None


def prepare_to_leave() -> None:
    """Let `leave` end the process. To be called before the imports that register functions of their own.

    Nothing changes in a program that calls the entry point of the command, because it may catch the exception and go on.
    """
    program = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
    if program.stem == "dmlbench" or program == Path(__file__).resolve().parents[1] / "__main__.py":
        atexit.register(_end)


def leave(status: int) -> NoReturn:
    """End the process like `sys.exit`, but free no object if `prepare_to_leave` was called.

    Args:
        status: Exit status.
    """
    global _status
    _status = status
    sys.exit(status)


def leave_after_last_job() -> None:
    """Let a process of a launcher end without freeing its objects when the launcher has no more job for it."""
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
