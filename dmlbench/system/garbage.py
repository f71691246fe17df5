"""Python's search for unreachable objects, which is slow while many objects are created that stay.

Importing torch and composing configurations create a million objects. With Python's own thresholds, the search examines them
again and again, which takes a third of the time of a start, and once more when the interpreter ends.
"""

from __future__ import annotations

import gc

_RARELY = (100_000, 50, 50)
_usual = gc.get_threshold()


def search_rarely() -> None:
    """Search for unreachable objects rarely, until `search_as_usual`."""
    gc.set_threshold(*_RARELY)


def search_as_usual() -> None:
    """Search as often as Python does, but not among the objects that exist now."""
    if gc.get_threshold() == _RARELY:
        gc.freeze()
        gc.set_threshold(*_usual)


def skip_last_search() -> None:
    """Let the interpreter end without a search; its memory is freed with the process."""
    gc.freeze()
