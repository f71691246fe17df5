"""Split rules: how the images of a data set receive their roles."""

from __future__ import annotations

import pandas as pd

from dmlbench.system.seeding import numpy_generator

HALF_PER_CLASS_NOTE = (
    "half of the images of each class, chosen by split_seed, are training images; the rest is query and gallery, so no test "
    "class is unseen"
)


def first_half_of_classes(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    """Train on the first half of the classes, in the order of their labels. The rest is query and gallery.

    Args:
        frame: One row per image, with a 0-based `label`.
        split_seed: Not used; all rules have the same arguments.

    Returns:
        Role to a boolean series `(N,)`, for the four roles.
    """
    return train_test_roles(frame["label"] < frame["label"].nunique() // 2)


def half_per_class(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    """Train on half of the images of each class. The rest is query and gallery.

    Args:
        frame: One row per image, with `path`, `label` and `class_name`.
        split_seed: Seed of the choice. Each class has an independent random stream, so an additional class does not change
            the choice in any other.

    Returns:
        Role to a boolean series `(N,)`, for the four roles.
    """
    train = pd.Series(False, index=frame.index)
    for _, images in frame.sort_values("path").groupby("label"):  # sorted, so that the order of the list does not matter
        order = numpy_generator(split_seed, f"half of {images['class_name'].iloc[0]}").permutation(images.index)
        train[order[: (len(order) + 1) // 2]] = True
    return train_test_roles(train)


def train_test_roles(train: pd.Series) -> dict[str, pd.Series]:
    """Return the roles of a split without validation images, in which every test image is both query and gallery.

    Args:
        train: bool `(N,)`, whether each image is a training image.

    Returns:
        Role to a boolean series `(N,)`, for the four roles.
    """
    return {"train": train, "val": train & False, "query": ~train, "gallery": ~train}
