"""Split rules: how the images of a data set receive their roles."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dmlbench.data.class_groups import GROUP, groups_by_class, shared_groups
from dmlbench.errors import UserError
from dmlbench.system.seeding import numpy_generator

HALF_PER_CLASS_NOTE = (
    "half of the images of each class, chosen by split_seed, are training images; the rest is query and gallery, so no test "
    "class is unseen"
)


def first_half_of_classes(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Train on the first half of the classes, in the order of their labels. The rest is query and gallery.

    Args:
        frame: One row per image, with a 0-based `label`.

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


def random_classes(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    """Train on half of the classes, drawn at random. The rest is query and gallery.

    Args:
        frame: One row per image, with a 0-based `label`.
        split_seed: Seed of the choice.

    Returns:
        Role to a boolean series `(N,)`, for the four roles.
    """
    n_classes = frame["label"].nunique()
    drawn = numpy_generator(split_seed, "random classes").permutation(n_classes)[: n_classes // 2]
    return train_test_roles(frame["label"].isin(drawn))


def random_groups(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    """Train on the classes of some groups, drawn at random, so that no group has training and test classes.

    Groups are drawn until the training classes are as close to half of the classes as possible.

    Args:
        frame: One row per image, with a 0-based `label` and a column `group`.
        split_seed: Seed of the choice.

    Returns:
        Role to a boolean series `(N,)`, for the four roles.

    Raises:
        UserError: The data set has no groups, or only one.
    """
    sizes = frame.groupby(GROUP)["label"].nunique() if GROUP in frame else pd.Series(dtype=np.int64)
    if len(sizes) < 2:
        problem = f"all classes are in '{sizes.index[0]}'" if len(sizes) else "the data set has none"
        raise UserError(
            f"dataset.split=random_groups needs two or more groups, but {problem}; use dataset.split=random_classes"
        )
    sizes = sizes.iloc[numpy_generator(split_seed, "random groups").permutation(len(sizes))]
    distances = (2 * sizes.cumsum().to_numpy() - sizes.sum())[:-1]  # without the last group, so that there are test classes
    return train_test_roles(frame[GROUP].isin(sizes.index[: np.abs(distances).argmin() + 1]))


_DRAWN = {
    "half_per_class": (half_per_class, HALF_PER_CLASS_NOTE),
    "random_classes": (
        random_classes,
        "half of the classes, drawn with split_seed, are training classes, the others test classes",
    ),
    "random_groups": (
        random_groups,
        "the classes of some groups, drawn with split_seed, are training classes, those of the other groups test classes",
    ),
}
RANDOM = "random"
DRAWN_RULES = (*_DRAWN, RANDOM)  # rules that use `split_seed`


def draw_roles(rule: str, frame: pd.DataFrame, split_seed: int) -> tuple[pd.DataFrame, str]:
    """Draw the roles of the images.

    `random` draws what the default split of the data set separates: whole groups, if most groups of its test classes do not
    occur in training, otherwise single classes. So a random split is about as difficult as the default split.

    Args:
        rule: One of `DRAWN_RULES`.
        frame: One row per image, with the roles of the default split.
        split_seed: Seed of the choice.

    Returns:
        The frame with the drawn roles, and a note about what was drawn.

    Raises:
        UserError: The data set has no groups, but the rule needs them.
    """
    if rule == RANDOM:
        n_groups = len(set(groups_by_class(frame, "query", "gallery").values()))
        rule = "random_groups" if 2 * len(shared_groups(frame)) < n_groups else "random_classes"
    draw, note = _DRAWN[rule]
    return frame.assign(**draw(frame, split_seed)), note


def refuse_unused_seed(rule: str, split_seed: int) -> None:
    """Refuse the seed of a split rule that draws nothing, because rows would differ in it although the split is the same.

    Args:
        rule: Name of the rule.
        split_seed: Seed of the user.

    Raises:
        UserError: The seed is not 0.
    """
    if split_seed != 0:
        raise UserError(
            f"dataset.split_seed={split_seed} has no effect with dataset.split={rule}, which draws nothing; use "
            "dataset.split=random, which draws the training classes"
        )


def train_test_roles(train: pd.Series) -> dict[str, pd.Series]:
    """Return the roles of a split without validation images, in which every test image is both query and gallery.

    Args:
        train: bool `(N,)`, whether each image is a training image.

    Returns:
        Role to a boolean series `(N,)`, for the four roles.
    """
    return {"train": train, "val": train & False, "query": ~train, "gallery": ~train}
