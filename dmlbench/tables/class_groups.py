"""Groups of the test classes, such as alphabets or makes of cars: classes of one group may be alike.

A run of a data set with groups writes them beside its row. The significance test then takes groups as independent, not classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dmlbench.results import run_files
from dmlbench.results.class_files import class_group_names
from dmlbench.results.row import Row

MIN_GROUPS = 5  # with fewer, the variance between groups is hardly known, and the test could find almost nothing
_KIND = "class_group_kind"


@dataclass(frozen=True, eq=False)
class ClassGroups:
    """Groups of the test classes.

    Args:
        kind: What the groups are, such as `alphabet`.
        index: Index of the group of each class, int64 `(C,)` without gaps from 0, in the order of the classes.
    """

    kind: str
    index: np.ndarray

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.index.max()) + 1


def class_groups(rows: Sequence[Row], labels: np.ndarray) -> tuple[ClassGroups | None, str | None]:
    """Read the groups of the test classes of rows that are tested together.

    Args:
        rows: Rows of all methods and seeds.
        labels: Labels of the test classes, int `(C,)`.

    Returns:
        The groups, or None if the data set has none, and None; or None, and a clause that says why rows with groups cannot be
        tested.
    """
    kinds = {kind for row in rows if (kind := row.get(_KIND)) is not None}
    if not kinds:
        return None, None
    found = [_groups_of(row, labels) for row in rows]
    known = [names for names in found if names is not None]
    if len(known) < len(found):
        missing = f"{len(found) - len(known)} of {len(found)} runs ({run_files.CLASS_GROUPS})"
        return None, f"the groups of the classes are missing or damaged in {missing}; run their commands again"
    if len(kinds) > 1 or any(names != known[0] for names in known):
        return None, "the rows have different groups of classes"
    groups = ClassGroups(str(kinds.pop()), np.unique(known[0], return_inverse=True)[1])
    if groups.count < MIN_GROUPS:
        plural = "s" if groups.count != 1 else ""
        return None, (
            f"the test classes come from only {groups.count} group{plural} ({groups.kind}), and a test that takes groups as "
            f"independent needs {MIN_GROUPS}"
        )
    return groups, None


def _groups_of(row: Row, labels: np.ndarray) -> list[str] | None:
    """Return the group of each class; None if one is unknown."""
    names = class_group_names(row) or {}
    groups = [names[str(label)] for label in labels if str(label) in names]
    return groups if len(groups) == len(labels) else None
