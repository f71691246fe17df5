"""Class-disjoint folds of the training classes: models are selected on held-out training classes, never on the test set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dmlbench.config.schema import Protocol
from dmlbench.data.split import Split
from dmlbench.errors import UserError


def held_out_classes(n_classes: int, fold: int, folds: int) -> np.ndarray:
    """Return the training classes that a fold holds out for validation.

    Fold p of n classes starts at class int(p n / folds). It trains on the next n - floor(n / folds) classes and validates on
    the floor(n / folds) classes after these; the count continues with class 0 after the last class. If `folds` does not
    divide n, some classes are never held out.

    Args:
        n_classes: Number of training classes.
        fold: Index of the fold, 0-based.
        folds: Number of folds.

    Returns:
        int64 `(n_classes // folds,)`: indices into the sorted training classes.

    Source:
        Musgrave et al., ECCV 2020, arXiv:2003.08505, as in mlrc_split_manager.py of their code.

    >>> [held_out_classes(98, fold, 4)[[0, -1]].tolist() for fold in range(4)]
    [[74, 97], [0, 23], [25, 48], [49, 72]]
    """
    size = n_classes // folds
    start = int(fold / folds * n_classes)
    return (start + n_classes - size + np.arange(size)) % n_classes


def hold_out(split: Split, fold: int, folds: int) -> Split:
    """Hold one fold of the training classes out for validation. The test set does not change.

    Args:
        split: Data set. Its validation images, if it has any, count as training images here.
        fold: Index of the fold, 0-based.
        folds: Number of folds.

    Raises:
        UserError: There are fewer than two classes per fold.
    """
    seen = split.frame["train"] | split.frame["val"]
    classes = np.unique(split.frame.loc[seen, "label"])
    if len(classes) < 2 * folds:
        raise UserError(
            f"protocol.fold: {len(classes)} training classes cannot be held out in {folds} folds of two classes or more; "
            f"use protocol.folds={max(len(classes) // 2, 1)} or fewer"
        )
    held_out = split.frame["label"].isin(classes[held_out_classes(len(classes), fold, folds)])
    return replace(split, frame=split.frame.assign(train=seen & ~held_out, val=seen & held_out))


def training_splits(split: Split, protocol: Protocol) -> list[Split]:
    """Return the splits that a protocol trains one model on each: a single one, or one per fold.

    Args:
        split: Data set.
        protocol: Protocol, with the fold to hold out and how the reported model is selected.

    Raises:
        UserError: The protocol selects on validation images, but there are none.
    """
    if protocol.fold == "all":
        return [hold_out(split, fold, protocol.folds) for fold in range(protocol.folds)]
    if protocol.fold != "none":
        return [hold_out(split, protocol.fold, protocol.folds)]
    if protocol.selection == "validation" and not split.frame["val"].any():
        raise UserError(
            "protocol.selection is 'validation', but no training classes are held out for it; hold out one fold with "
            f"protocol.fold=0 (of {protocol.folds}), or train one model per fold with protocol.fold=all"
        )
    return [split]
