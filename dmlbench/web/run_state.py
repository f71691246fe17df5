"""The state of a run directory: the identity of its files, its row, and whether images can be searched with it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dmlbench.errors import UserError, describe_os_error
from dmlbench.pictures.saved_embeddings import map_embeddings, refuse_without_embeddings
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_row

_KEY = re.compile(r"[\w.-]{1,100}", re.ASCII)
_FOLDS = "fold[0-9]*/"
# Files that pages depend on. The row is the first.
_FILES = (
    *(run_files.ROW, run_files.EMBEDDINGS, run_files.MODEL, run_files.MODEL_SAFETENSORS),
    *(run_files.CLASSES, run_files.IMAGES),
)

Stamp = tuple[tuple[int, int, int], ...]  # inode number, size, and time of the last change of each file; zeros if it is missing


@dataclass(frozen=True, eq=False)
class Run:
    """A run directory at one time.

    Args:
        row: Its row; None if it cannot be read.
        stamp: Identity of its files.
        problem: Why it cannot be used; None if it can, or if it is none that images are searched with.
    """

    row: Row | None
    stamp: Stamp
    problem: str | None

    @property
    def is_usable(self) -> bool:
        """Whether images can be searched with it."""
        return self.problem is None and self.row is not None and _is_trained(self.row)


def run_stamp(folder: Path) -> Stamp:
    """Return the identity of the files of a run. It changes when any of them is written, replaced or removed.

    Args:
        folder: Directory of the run. It may be missing.
    """
    folders = [folder]
    with suppress(OSError):
        folders += sorted(folder.glob(_FOLDS))
    return tuple(_identity(one / name) for one in folders for name in _FILES)


def read_run(path: Path, stamp: Stamp) -> Run:
    """Read a row, and check that its embeddings are complete. Their hash is checked when they are used.

    Args:
        path: A `row.json`.
        stamp: Identity of the files of the run.
    """
    try:
        row = read_row(path)
    except UserError as error:
        return Run(None, stamp, str(error))
    return Run(row, stamp, _problem(row) if _is_trained(row) else None)


def embeddings_file(row: Row) -> Path:
    """Return the file of embeddings of a run; of the first model if it has one per fold.

    Args:
        row: Row of the run, with its directory.
    """
    assert row.folder is not None
    part = sorted(row.folder.glob(_FOLDS))[:1] if row.get("n_models", 1) != 1 else []
    return (part or [row.folder])[0] / run_files.EMBEDDINGS


def _is_trained(row: Row) -> bool:
    """Return whether a row is that of a finished run, and not that of its evaluation."""
    return row.ok and row.get("parent") is None


def _problem(row: Row) -> str | None:
    try:
        refuse_without_embeddings(row)
        if not _KEY.fullmatch(str(row["run_id"])):
            return "its run id contains other characters than letters, digits, points and dashes"
        map_embeddings(embeddings_file(row))
    except FileNotFoundError:
        return f"it has no {run_files.EMBEDDINGS}"
    except UserError as error:
        return str(error)
    except OSError as error:
        return describe_os_error(error)
    return None


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns
