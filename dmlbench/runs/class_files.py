"""The files of a run directory that describe its test classes: their names and, if the data set has groups, their groups."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from dmlbench.data.split import Split
from dmlbench.results import run_files
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.regular_files import read_json


def write_classes(folder: Path, split: Split) -> None:
    """Write the names of the test classes and, if the data set has groups, the group of each.

    Args:
        folder: Directory of the run.
        split: Data set of the run.
    """
    _write(folder / run_files.CLASSES, split.class_names("query"))
    if groups := split.class_groups("query", "gallery"):
        _write(folder / run_files.CLASS_GROUPS, groups)


def add_groups(folder: Path, split: Split) -> Iterator[str]:
    """Write the groups of the test classes into the directory of a finished run that has none.

    Groups do not affect a run, so a run that finished before its data set had groups need not be repeated.

    Args:
        folder: Directory of the run.
        split: Data set of the run, with the same images, labels and roles.

    Yields:
        A line for the user if groups were written, or if the run has other groups, which are kept.
    """
    file, groups = folder / run_files.CLASS_GROUPS, split.class_groups("query", "gallery")
    if not groups:
        return
    known = None
    with suppress(OSError, ValueError):  # missing or damaged
        known = read_json(file)
    if known is None:
        _write(file, groups)
        yield f"groups    the finished run in {folder} now has the groups of its test classes ({split.group_kind or 'group'})"
    elif known != {str(label): group for label, group in groups.items()}:
        yield f"groups    the finished run in {folder} keeps other groups of its test classes; delete {file} to change"


def _write(file: Path, values: Mapping[int, str]) -> None:
    atomic_write(file, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
