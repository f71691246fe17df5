"""Read and write result rows, and find them below directories."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.row import MISSING, Row
from dmlbench.results.run_status import run_status
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.regular_files import parse_json, read_bytes

MAX_ROW_BYTES = 4 * 1024**2  # a row has 20 kB


class SkippedFile(NamedTuple):
    """A file or directory from which no row could be read: its path, and a clause that says why."""

    path: str
    reason: str


def write_row(folder: Path, row: Row, name: str = run_files.ROW) -> Path:
    """Write `folder/row.json`; its existence means that the run is done.

    Args:
        folder: Run directory; created if missing.
        row: Row to write.
        name: Name of the file; `run_files.PENDING_ROW` for the columns that are known before the run ends.

    Returns:
        Path of the file.

    Raises:
        ValueError: A column contains a number that is not finite, which JSON cannot represent.
    """
    for column, value in row.columns.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"column '{column}' is {value}; a row holds finite numbers or null")
    path = folder / name
    atomic_write(path, json.dumps(dict(row.columns), indent=1, ensure_ascii=False) + "\n")
    return path


def read_row(path: Path) -> Row:
    """Read one `row.json`.

    Args:
        path: The file.

    Raises:
        UserError: The file is not a row: it is corrupt, written by another program, or of a newer schema.
    """
    row, reason = _read(str(path))
    if row is None:
        raise UserError(f"{path} is not a row of dmlbench: {reason}")
    return row


def _read(path: str) -> tuple[Row | None, str]:
    """Return a row, or None and the reason."""
    try:
        columns = parse_json(read_bytes(path, MAX_ROW_BYTES))
        if not isinstance(columns, dict):
            return None, "it is not a JSON object"
        return Row(columns, Path(os.path.dirname(path))), ""
    except OSError as error:
        return None, error.strerror or str(error)
    except ValueError as error:
        is_torn = os.path.basename(path) == run_files.ROW
        return None, f"{error}{'; delete it and run its command again' if is_torn else ''}"
    except UserError as error:
        return None, str(error)


def read_rows(*paths: Path) -> tuple[list[Row], list[SkippedFile]]:
    """Read all rows at or below some paths, and all runs there that were started but have no row.

    Args:
        paths: Directories, in which files that are not rows are skipped; or files, which must be rows.

    Returns:
        The rows in the order of their paths, followed by rows of status `missing` for runs without a row anywhere; and the
        skipped files.

    Raises:
        UserError: A named file is not a row.
    """
    # A file that the user names may be a link.
    rows = {str(path): read_row(path.resolve() if path.is_symlink() else path) for path in paths if path.is_file()}
    files, pending, skipped = _find(path for path in paths if not path.is_file())
    for path in files:
        if path not in rows:
            row, reason = _read(path)
            if row is None:
                skipped.append(SkippedFile(path, reason))
            else:
                rows[path] = row
    finished = [rows[path] for path in sorted(rows, key=_parts)]
    ids = {row["run_id"] for row in finished}
    missing: dict[Scalar, Row] = {}
    for path in pending:
        row, reason = _read_pending(path)
        if row is None:
            skipped.append(SkippedFile(path, reason))
        elif row["run_id"] not in ids:
            missing[row["run_id"]] = row
    return [*finished, *missing.values()], sorted(skipped)


def _read_pending(path: str) -> tuple[Row | None, str]:
    """Return a row of status `missing` for a pending row; or the row of the run, if it has ended in the meantime."""
    row, reason = _read(path)
    folder = os.path.dirname(path)
    status = run_status(Path(folder))
    if os.path.isfile(ended := os.path.join(folder, run_files.ROW)):
        return _read(ended)
    if row is None:
        return None, reason
    return replace(row, columns={**row.columns, "status": MISSING, "reason": status}), ""


def find_rows(*paths: Path) -> Iterator[Path]:
    """Find every `row.json` at or below some paths.

    Args:
        paths: Directories or files.

    Yields:
        Each file once, in the order of their paths.
    """
    files = {str(path) for path in paths if path.is_file()}
    files.update(_find(path for path in paths if not path.is_file())[0])
    yield from map(Path, sorted(files, key=_parts))


def _parts(path: str) -> list[str]:
    return path.split(os.sep)


def _find(folders: Iterable[Path]) -> tuple[list[str], list[str], list[SkippedFile]]:
    """Find the rows below some directories, the pending rows without a row beside them, and what cannot be read.

    Links to directories are not followed, because they may form a cycle.
    """
    rows, pending, skipped = set(), set(), set()
    left = [str(folder) for folder in folders]
    while left:
        folder = left.pop()
        prefix = "" if folder == os.curdir else os.path.join(folder, "")
        seen = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name in (run_files.ROW, run_files.PENDING_ROW):
                        seen[entry.name] = _why_not_a_file(entry)
                    elif entry.is_dir(follow_symlinks=False):
                        left.append(prefix + entry.name)
        except FileNotFoundError:  # removed in the meantime
            continue
        except OSError as error:
            skipped.add(SkippedFile(folder, error.strerror or str(error)))
        if reason := seen.get(run_files.ROW):
            skipped.add(SkippedFile(prefix + run_files.ROW, reason))
        elif run_files.ROW in seen:
            rows.add(prefix + run_files.ROW)
        elif seen.get(run_files.PENDING_ROW) == "":
            pending.add(prefix + run_files.PENDING_ROW)
    return sorted(rows, key=_parts), sorted(pending, key=_parts), list(skipped)


def _why_not_a_file(entry: os.DirEntry[str]) -> str:
    """Return why a directory entry is not a readable file; empty if it is one."""
    if entry.is_file(follow_symlinks=False):
        return ""
    if entry.is_symlink():
        return "it is a link"
    return "it is a directory" if entry.is_dir(follow_symlinks=False) else "it is not a regular file"
