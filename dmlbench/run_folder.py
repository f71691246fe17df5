"""Floor 3: what lies in a run's folder, whether the run has ended or not; nothing of it is executed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.rows import CHECKPOINT, HISTORY, PLAN_FILE, ROW_FILE, WORDS, Row, read_row
from dmlbench.unfinished import why_unfinished

Epochs = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class RunFolder:
    """A run's folder.

    Args:
        place: where it is.
        row: None where there is none that can be read.
        plan: what the row will begin with, while there is none.
        unreadable: why the row cannot be read, where it is there.
        histories: the folder of a model (`.`, or one a fold) to its epochs.
        why: there is no row, a clause.
        checkpoint: when the last one was written, if one is there.
        words: that the run was made of; none where they were not kept.
        sizes: bytes of each file at its top, by name.
    """

    place: Path
    row: Row | None
    plan: Row | None
    unreadable: str | None
    histories: Mapping[str, Epochs]
    why: str
    checkpoint: datetime | None
    words: Sequence[str]
    sizes: Mapping[str, int]


def read_folder(place: Path) -> RunFolder:
    """Read a run's folder; what is missing or torn in it is None or empty."""
    row, unreadable = None, None
    if (place / ROW_FILE).is_file():
        try:
            row = read_row(place / ROW_FILE)
        except UserError as mistake:
            unreadable = str(mistake)
    parts = [place, *sorted(place.glob("fold[0-9]*"))]
    histories = {str(part.relative_to(place)): found for part in parts if (found := _epochs(part / HISTORY))}
    checkpoints = [file.stat().st_mtime for part in parts if (file := part / CHECKPOINT).is_file()]
    return RunFolder(
        place=place,
        row=row,
        plan=_plan(place / PLAN_FILE),
        unreadable=unreadable,
        histories=histories,
        why=why_unfinished(place),
        checkpoint=datetime.fromtimestamp(max(checkpoints), UTC) if checkpoints else None,
        words=_words(place / WORDS),
        sizes={file.name: file.stat().st_size for file in sorted(place.iterdir()) if file.is_file()},
    )


def _epochs(file: Path) -> list[dict[str, float]]:
    """The lines of a history that can be read, each with its numbers alone."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict):
            found.append({name: float(value) for name, value in told.items() if _is_number(value)})
    return found


def _words(file: Path) -> list[str]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(map(str, told)) if isinstance(told, list) else []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plan(file: Path) -> Row | None:
    try:
        return read_row(file) if file.is_file() else None
    except UserError:
        return None
