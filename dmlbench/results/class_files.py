"""The files of a run that describe its test classes: their names, and their groups if the data set has any."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.system.regular_files import read_json

GROUPS_DIGEST = "class_groups_digest"


def groups_digest(groups: Mapping[int, str] | Mapping[str, str]) -> str:
    """Return 16 hex digits that identify groups of classes.

    Args:
        groups: Label to group, in ascending order of the labels.
    """
    return hashlib.sha256(json.dumps(groups).encode()).hexdigest()[:16]


def class_names(row: Row) -> dict[str, str]:
    """Return the names of the test classes of a run by label; empty if they are not known.

    Args:
        row: Row of the run, or of a run that was evaluated again.
    """
    return _read(row, run_files.CLASSES) or {}


def class_group_names(row: Row) -> dict[str, str] | None:
    """Return the group of each test class of a run by label.

    Args:
        row: Row of the run, or of a run that was evaluated again.

    Returns:
        Label to group; None if they are not known, or are not those of the row.
    """
    groups = _read(row, run_files.CLASS_GROUPS)
    recorded = row.get(GROUPS_DIGEST)  # rows of earlier versions do not have it
    return groups if groups is not None and recorded in (None, groups_digest(groups)) else None


def _read(row: Row, name: str) -> dict[str, str] | None:
    """Return the text by label from a file of the run, or else of the run that was evaluated again."""
    for folder in (row.folder, row.folder.parent) if row.folder else ():
        try:
            values = read_json(folder / name)
        except (OSError, ValueError):
            continue
        return {label: text for label, text in values.items() if isinstance(text, str)} if isinstance(values, dict) else None
    return None
