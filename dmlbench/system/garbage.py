"""Python's search for unreachable objects, which is slow while many objects are created that stay.

Importing torch and composing configurations create a million objects. With Python's own thresholds, the search examines them
again and again, which takes a third of the time of a start.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_RARELY = (100_000, 50, 50)
_usual = gc.get_threshold()


@contextmanager
def searching_rarely() -> Iterator[None]:
    """Search for unreachable objects rarely in a `with` block, until `search_as_usual`."""
    gc.set_threshold(*_RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*_usual)
        gc.unfreeze()  # or else libraries report at the end that their objects have not been freed


def search_as_usual() -> None:
    """Search as often as Python does, but not among the objects that exist now."""
    if gc.get_threshold() == _RARELY:
        gc.freeze()
        gc.set_threshold(*_usual)
