"""Read a run directory, whether the run has finished or not. Nothing in it is executed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_row
from dmlbench.results.run_status import run_status
from dmlbench.system.regular_files import parse_json, read_bytes, read_json

Epochs = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class RunFolder:
    """The contents of a run directory.

    Args:
        path: The directory.
        row: The row; None if it does not exist or cannot be read.
        pending_row: Columns that were known before the run ended; None once the row exists.
        unreadable: Why the row cannot be read; None if it can, or does not exist.
        histories: Directory of each model (`.`, or one per fold) to its epochs.
        status: Why there is no row, a clause.
        checkpoint: Time of the last checkpoint; None without one.
        overrides: Command-line overrides of the run; empty if they were not recorded.
        sizes: Bytes of each file, by name.
    """

    path: Path
    row: Row | None
    pending_row: Row | None
    unreadable: str | None
    histories: Mapping[str, Epochs]
    status: str
    checkpoint: datetime | None
    overrides: Sequence[str]
    sizes: Mapping[str, int]


def read_folder(path: Path) -> RunFolder:
    """Read a run directory.

    Args:
        path: The directory.

    Returns:
        Its contents; missing or corrupt files are None or empty.
    """
    row, unreadable = None, None
    if (path / run_files.ROW).is_file():
        try:
            row = read_row(path / run_files.ROW)
        except UserError as error:
            unreadable = str(error)
    parts = [path, *(part for part in sorted(path.glob("fold[0-9]*")) if not part.is_symlink())]
    histories = {str(part.relative_to(path)): found for part in parts if (found := _epochs(part / run_files.HISTORY))}
    checkpoints = [time for part in parts if (time := _time_written(part / run_files.CHECKPOINT)) is not None]
    return RunFolder(
        path=path,
        row=row,
        pending_row=_pending_row(path / run_files.PENDING_ROW),
        unreadable=unreadable,
        histories=histories,
        status=run_status(path),
        checkpoint=max(checkpoints, default=None),
        overrides=_overrides(path / run_files.OVERRIDES) or _overrides(path / run_files.OVERRIDES_SCHEMA_1),
        sizes={file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file() and not file.is_symlink()},
    )


def _time_written(file: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(file.lstat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):  # there is no such file, or its time is not in years 1 to 9999
        return None


def _epochs(file: Path) -> list[dict[str, float]]:
    """Return the numbers in each readable line of a history."""
    try:
        lines = read_bytes(file).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            values = parse_json(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            found.append({name: float(value) for name, value in values.items() if _is_number(value)})
    return found


def _overrides(file: Path) -> list[str]:
    try:
        values = read_json(file)
    except (OSError, ValueError):
        return []
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _pending_row(file: Path) -> Row | None:
    try:
        return read_row(file) if file.is_file() else None
    except UserError:
        return None
