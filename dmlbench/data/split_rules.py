"""The rules by which images are given their roles."""

from __future__ import annotations

import pandas as pd

from dmlbench.system.seeding import numpy_generator

HALF_PER_CLASS = "half of each class's images trains, chosen by split_seed; the rest is query and gallery"


def first_half_of_classes(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    """The first half of the classes, by label, trains; the rest is query and gallery.

    Args:
        frame: lines with a 0-based `label`.
        split_seed: decides nothing here.

    Returns:
        The four roles.
    """
    return two_sided(frame["label"] < frame["label"].nunique() // 2)


def half_per_class(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    """Half of each class's images trains; the rest is query and gallery.

    Args:
        frame: lines with `path`, `label` and `class_name`.
        split_seed: each class draws from a stream of its own, so that a further class changes no other's half.

    Returns:
        The four roles.
    """
    train = pd.Series(False, index=frame.index)
    for _, images in frame.sort_values("path").groupby("label"):  # ordered by path, whatever the list's order
        order = numpy_generator(split_seed, f"half of {images['class_name'].iloc[0]}").permutation(images.index)
        train[order[: (len(order) + 1) // 2]] = True
    return two_sided(train)


def two_sided(train: pd.Series) -> dict[str, pd.Series]:
    """What trains, and what is query and gallery: everything else."""
    return {"train": train, "val": train & False, "query": ~train, "gallery": ~train}
