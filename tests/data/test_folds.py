"""Validation uses held-out training classes. The folds are those of the reality check, and all have the same test set."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmlbench.config.compose import compose, resolve
from dmlbench.config.schema import Protocol
from dmlbench.data import folds as module
from dmlbench.data.folds import held_out_classes, hold_out, training_splits
from dmlbench.data.split import Split
from dmlbench.errors import UserError


def make_split(n_train: int, n_test: int = 4, per_class: int = 2) -> Split:
    labels = np.repeat(np.arange(n_train + n_test), per_class)
    seen = labels < n_train
    return Split(
        pd.DataFrame(
            {
                "path": [f"{k}.png" for k in range(len(labels))],
                "label": labels,
                "class_name": labels.astype(str),
                "train": seen,
                "val": False,
                "query": ~seen,
                "gallery": ~seen,
            }
        ),
        Path(),
    )


def protocol(**changes: object) -> Protocol:
    return Protocol(name="p", version=1, epochs=1, batch_size=2, embedding_dim=2, image_px=8, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n_classes", "size", "first_and_last"),
    [
        # the classes that folds 0 to 3 of the reality check hold out
        (100, 25, [(75, 99), (0, 24), (25, 49), (50, 74)]),  # CUB
        (98, 24, [(74, 97), (0, 23), (25, 48), (49, 72)]),  # Cars: classes 24 and 73 are never held out
        (11318, 2829, [(8489, 11317), (0, 2828), (2830, 5658), (5659, 8487)]),  # SOP
        (110, 27, [(83, 109), (0, 26), (28, 54), (55, 81)]),  # Omniglot
    ],
)
def test_the_folds_are_those_of_the_reality_check(n_classes: int, size: int, first_and_last: list[tuple[int, int]]) -> None:
    for fold, (first, last) in enumerate(first_and_last):
        held = held_out_classes(n_classes, fold, 4)
        assert held.tolist() == list(range(first, last + 1))
        assert len(held) == size


@pytest.mark.parametrize("n_classes", [8, 41, 98, 100, 110, 11318])
def test_a_fold_trains_on_the_classes_after_its_start_and_validates_on_those_that_follow(n_classes: int) -> None:
    """The rule of the paper's code: count through all classes from the start of the fold, and continue with class 0."""
    for fold in range(4):
        order = [(int(fold / 4 * n_classes) + step) % n_classes for step in range(n_classes)]
        n_val = n_classes // 4
        assert held_out_classes(n_classes, fold, 4).tolist() == order[n_classes - n_val :]


@pytest.mark.parametrize("n_classes", [8, 41, 98, 100])
def test_no_class_is_held_out_twice_and_all_folds_train_on_equally_many_classes(n_classes: int) -> None:
    splits = [hold_out(make_split(n_classes), fold, 4) for fold in range(4)]
    held_out = [set(split.labels("val")) for split in splits]
    assert sum(map(len, held_out)) == len(set.union(*held_out))
    assert {split.facts["train_classes"] for split in splits} == {n_classes - n_classes // 4}
    for split in splits:
        assert not set(split.labels("val")) & set(split.labels("train"))
        assert set(split.labels("val")) | set(split.labels("train")) == set(range(n_classes))


def test_all_folds_have_the_same_test_set_and_share_no_class_with_it() -> None:
    whole = make_split(12)
    for fold in training_splits(whole, protocol(selection="validation", fold="all")):
        for role in ("query", "gallery"):
            np.testing.assert_array_equal(fold.ids(role), whole.ids(role))
        assert not set(fold.labels("query")) & (set(fold.labels("train")) | set(fold.labels("val")))


def test_a_protocol_trains_on_one_fold_or_on_the_whole_split() -> None:
    whole = make_split(12)
    assert training_splits(whole, protocol()) == [whole]
    [fold] = training_splits(whole, protocol(fold=2))
    np.testing.assert_array_equal(fold.ids("val"), hold_out(whole, 2, 4).ids("val"))


def test_without_a_fold_the_validation_images_of_the_data_set_are_used() -> None:
    frame = make_split(4).frame
    split = Split(frame.assign(val=frame["label"] == 3, train=frame["label"] < 3), Path())
    assert training_splits(split, protocol(selection="validation")) == [split]


def test_the_validation_images_of_the_data_set_count_as_training_images_if_a_fold_is_held_out() -> None:
    frame = make_split(8).frame
    split = Split(frame.assign(val=frame["label"] == 7, train=frame["label"] < 7), Path())
    np.testing.assert_array_equal(hold_out(split, 1, 4).ids("val"), hold_out(make_split(8), 1, 4).ids("val"))


def test_selection_on_validation_without_validation_images_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no training classes are held out for it; hold out one fold with protocol\.fold=0"):
        training_splits(make_split(12), protocol(selection="validation"))


def test_a_fold_that_does_not_exist_and_too_few_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"protocol\.fold is 4, but there are 4 folds, 0 to 3; `all` trains one model per fold"):
        protocol(fold=4)
    with pytest.raises(UserError, match=r"7 training classes cannot be held out in 4 folds.*use protocol\.folds=3 or fewer"):
        hold_out(make_split(7), 0, 4)


def test_patience_without_validation_is_refused() -> None:
    with pytest.raises(UserError, match=r"protocol\.patience needs protocol\.selection=validation"):
        protocol(patience=3)


@pytest.mark.parametrize(("dataset", "every", "patience"), [("cub", 2, 9), ("cars", 5, 14), ("sop", 20, 39)])
def test_the_reality_check_takes_its_patience_from_the_data_set(dataset: str, every: int, patience: int) -> None:
    settings = resolve(compose(["protocol=reality_check", f"dataset={dataset}", "loss=arcface"]))
    made, sampler = settings.protocol, settings.sampler
    assert (made.validate_every, made.patience, made.fold, made.selection) == (every, patience, "all", "validation")
    assert settings.optimizer["_target_"] == "torch.optim.RMSprop"
    assert (made.lr, made.batch_size, made.steps_per_epoch) == (1e-6, 32, 100)
    assert (sampler["kind"], sampler["pair"], sampler["classification"]) == ("classification", 4, 1)


def test_the_example_of_the_docstring_is_correct() -> None:
    assert doctest.testmod(module) == (0, 1)  # failed, attempted
