"""Class-disjoint folds of the training classes: a model is selected on classes it has not seen, and not on the test set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dmlbench.config.schema import Protocol
from dmlbench.data.split import Split
from dmlbench.errors import UserError


def held_out_classes(n_classes: int, fold: int, folds: int) -> np.ndarray:
    """Which of the training classes a fold holds out for validation.

    A fold starts at class int(p n / folds), trains on the next n - floor(n / folds) classes and validates on the
    floor(n / folds) after these, counted on from the first class where the last is passed. Where `folds` does not divide n,
    some classes are never held out.

    Args:
        n_classes: n, of the training classes, in the order of their labels.
        fold: p, from 0.
        folds: how many there are.

    Returns:
        int64 `(n // folds,)`, places among the training classes, in the order of validation.

    Source:
        Musgrave et al., ECCV 2020, arXiv:2003.08505, as in their code's mlrc_split_manager.py.

    >>> [held_out_classes(98, fold, 4)[[0, -1]].tolist() for fold in range(4)]
    [[74, 97], [0, 23], [25, 48], [49, 72]]
    """
    size = n_classes // folds
    start = int(fold / folds * n_classes)
    return (start + n_classes - size + np.arange(size)) % n_classes


def hold_out(split: Split, fold: int, folds: int) -> Split:
    """The split with one fold of its training classes held out: they validate, the others train; the test set is untouched.

    Args:
        split: its images for validation, if it has any, count as training images here.
        fold: from 0.
        folds: how many there are.

    Raises:
        UserError: there is no such fold, or there are not two classes for each fold.
    """
    if not 0 <= fold < folds:
        raise UserError(f"protocol.fold is {fold}, but there are {folds} folds, 0 to {folds - 1}; `all` trains a model on each")
    seen = split.frame["train"] | split.frame["val"]
    classes = np.unique(split.frame.loc[seen, "label"])
    if len(classes) < 2 * folds:
        raise UserError(
            f"protocol.fold: {len(classes)} training classes cannot be held out in {folds} folds of two classes or more; "
            f"use protocol.folds={max(len(classes) // 2, 1)} or fewer"
        )
    held = split.frame["label"].isin(classes[held_out_classes(len(classes), fold, folds)])
    return replace(split, frame=split.frame.assign(train=seen & ~held, val=seen & held))


def training_splits(split: Split, protocol: Protocol) -> list[Split]:
    """The splits that a protocol trains a model on: one, or one a fold.

    Raises:
        UserError: the protocol selects on validation, and nothing is held out for it.
    """
    if protocol.fold == "all":
        return [hold_out(split, fold, protocol.folds) for fold in range(protocol.folds)]
    if protocol.fold != "none":
        return [hold_out(split, protocol.fold, protocol.folds)]
    if protocol.selection == "validation" and not split.frame["val"].any():
        raise UserError(
            "protocol.selection is 'validation', but no training classes are held out for it; hold some out with "
            f"protocol.fold=0 (of {protocol.folds}), or train a model on each fold with protocol.fold=all"
        )
    return [split]
