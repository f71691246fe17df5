"""Errors that dmlbench raises on purpose.

    DmlbenchError
    ├── UserError        the user can correct it: one sentence, exit status 2, no traceback
    └── MethodFailure    the outcome of a method (non-finite loss, collapse): recorded as a row with status `failed`

Every other exception is a crash (disk, memory, signal, a bug): the run directory gets `error.txt` and no row, and the same
command runs the job again.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DmlbenchError(Exception):
    """Base class of all errors that dmlbench raises on purpose."""


class UserError(DmlbenchError):
    """An error that the user can correct. Its message names the value, where it is, and what would have worked."""


class MethodFailure(DmlbenchError):  # noqa: N818 -- an outcome that is recorded, not a defect
    """A method broke down in training (non-finite loss, collapsed embedding). It is recorded as a failed row."""


class FileError(OSError):
    """A file cannot be read or written. Its text is a sentence that names the file; its attributes are those of OSError."""


def describe_os_error(error: OSError) -> str:
    """Return one sentence about an error of the operating system.

    Args:
        error: The error.
    """
    if isinstance(error, FileError) or not error.strerror:
        return str(error)
    return f"{'the output' if error.filename is None else error.filename} cannot be used: {error.strerror}"


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name.

    Args:
        word: The unknown name.
        known: The names that are accepted.

    Returns:
        `"; did you mean 'x'?"` if an accepted name is similar, else `"; known: a, b, c"`. Empty if `known` is empty.

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
