"""Groups of classes, such as the alphabet of a character or the make of a car: the column `group` of a split.

Classes of a group resemble each other, so their scores are not independent; significance tests use the groups. The split digest
does not cover them, because they change neither the images nor their roles.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dmlbench.errors import UserError
from dmlbench.results.class_files import groups_digest

GROUP = "group"


def groups_by_class(frame: pd.DataFrame, *roles: str) -> dict[int, str]:
    """Return the group of each class that has an image with one of some roles.

    Args:
        frame: Frame of a split.
        roles: Names of roles.

    Returns:
        Label to group, in ascending order of the labels; empty if the data set has no groups.
    """
    if GROUP not in frame:
        return {}
    classes = frame.loc[frame[list(roles)].any(axis=1), ["label", GROUP]].drop_duplicates("label").sort_values("label")
    return {int(label): str(group) for label, group in zip(classes["label"], classes[GROUP], strict=True)}


def shared_groups(frame: pd.DataFrame) -> list[str]:
    """Return the groups of test classes that also occur in training, sorted.

    Args:
        frame: Frame of a split.
    """
    seen, tested = (set(groups_by_class(frame, *roles).values()) for roles in (("train", "val"), ("query", "gallery")))
    return sorted(seen & tested)


def group_columns(frame: pd.DataFrame, kind: str | None) -> dict[str, str | int | None]:
    """Return what result rows record about the groups of the test classes; None in every column if there are no groups.

    Args:
        frame: Frame of a split.
        kind: What the groups are, such as `alphabet`.

    Returns:
        Column name to value.
    """
    groups = groups_by_class(frame, "query", "gallery")
    known = GROUP in frame
    return {
        "class_group_kind": (kind or GROUP) if known else None,
        "class_groups_digest": groups_digest(groups) if known else None,
        "n_test_groups": len(set(groups.values())) if known else None,
        "n_shared_groups": len(shared_groups(frame)) if known else None,
    }


def overlap_note(frame: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence if groups of the test classes also occur in training.

    Args:
        frame: Frame of a split.
    """
    if shared := shared_groups(frame):
        total = len(set(groups_by_class(frame, "query", "gallery").values()))
        yield f"{len(shared):,} of {total:,} groups of the test classes also occur in training, such as '{shared[0]}'"


def refuse_bad_groups(name: str, frame: pd.DataFrame) -> None:
    """Refuse a column `group` that does not give every class one group.

    Args:
        name: Name of the data set, for error messages.
        frame: Frame of a split.

    Raises:
        UserError: A class has images without a group, or images of different groups.
    """
    if GROUP not in frame:
        return
    values = frame[GROUP]
    missing = frame[values.isna() | (values.astype(str).str.strip() == "")]
    if len(missing):
        total = frame["label"].nunique()
        raise UserError(
            f"dataset/{name}: {missing['label'].nunique():,} of {total:,} classes have images without a group, such as "
            f"'{missing['class_name'].iloc[0]}' ({missing['path'].iloc[0]}); give every image of a class the group of its "
            "class, or no image a group"
        )
    counts = values.groupby(frame["label"]).nunique()
    if (counts > 1).any():
        images = frame[frame["label"] == counts.idxmax()]
        two = "' and '".join(map(str, images[GROUP].unique()[:2]))
        raise UserError(
            f"dataset/{name}: the images of {int((counts > 1).sum()):,} of {len(counts):,} classes have different groups, such "
            f"as '{two}' in class '{images['class_name'].iloc[0]}'; all images of a class need the same group"
        )
