"""What can go wrong, and whose doing it is.

    DmlbenchError
    ├── UserError        the user can mend it: one sentence, exit status 2, no traceback
    └── MethodFailure    the method's own outcome (non-finite loss, collapse): a failed row, not an accident

Everything else that is raised is an accident (disk, memory, signal, a bug): it leaves `error.txt` in the run's folder
and no row, and the same command tries again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DmlbenchError(Exception):
    """The root of every error that dmlbench raises on purpose."""


class UserError(DmlbenchError):
    """A mistake that the user can mend: its text names the value, the place, and what would have worked."""


class MethodFailure(DmlbenchError):  # noqa: N818 -- an outcome to be recorded, not a defect
    """A method that broke down in training (non-finite loss, collapsed embedding); it becomes a failed row."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Word the near names of a misspelt one, to stand at the end of an error.

    Args:
        word: what the user typed.
        known: the names that would have worked.

    Returns:
        `"; did you mean 'x'?"` where a near name exists, else `"; known: a, b, c"`; empty where nothing is known.

    >>> suggest("softripple", ["softtriple", "triplet"])
    "; did you mean 'softtriple'?"
    >>> suggest("zebra", ["b", "a"])
    '; known: a, b'
    """
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""
