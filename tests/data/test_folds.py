"""Validation is on held-out training classes: the folds are the reality check's, and the test set is the same for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dmlbench.launch import compose
from omegaconf import OmegaConf

from dmlbench.config.schema import Protocol
from dmlbench.config.typed import typed
from dmlbench.data.folds import held_out_classes, hold_out, training_splits
from dmlbench.data.split import Split
from dmlbench.errors import UserError


def split_of(n_train: int, n_test: int = 4, per_class: int = 2) -> Split:
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
        # the reference's section (b), with the held-out classes of folds 0 to 3
        (100, 25, [(75, 99), (0, 24), (25, 49), (50, 74)]),  # CUB
        (98, 24, [(74, 97), (0, 23), (25, 48), (49, 72)]),  # Cars: classes 24 and 73 are never validated
        (11318, 2829, [(8489, 11317), (0, 2828), (2830, 5658), (5659, 8487)]),  # SOP's official training classes
        (110, 27, [(83, 109), (0, 26), (28, 54), (55, 81)]),  # the kit's Omniglot
    ],
)
def test_the_folds_are_those_of_the_reality_check(n_classes: int, size: int, first_and_last: list[tuple[int, int]]) -> None:
    for fold, (first, last) in enumerate(first_and_last):
        held = held_out_classes(n_classes, fold, 4)
        assert held.tolist() == list(range(first, last + 1))
        assert len(held) == size


@pytest.mark.parametrize("n_classes", [8, 41, 98, 100, 110, 11318])
def test_a_fold_trains_on_the_next_classes_and_validates_on_those_after_them(n_classes: int) -> None:
    """The paper's own code, written out: walk a ring of classes from the fold's start."""
    for fold in range(4):
        ring = [(int(fold / 4 * n_classes) + step) % n_classes for step in range(n_classes)]
        n_val = n_classes // 4
        assert held_out_classes(n_classes, fold, 4).tolist() == ring[n_classes - n_val :]


@pytest.mark.parametrize("n_classes", [8, 41, 98, 100])
def test_no_class_is_held_out_twice_and_every_fold_trains_on_as_many(n_classes: int) -> None:
    parts = [hold_out(split_of(n_classes), fold, 4) for fold in range(4)]
    held = [set(part.labels("val")) for part in parts]
    assert sum(map(len, held)) == len(set.union(*held))
    assert {part.facts["train_classes"] for part in parts} == {n_classes - n_classes // 4}
    for part in parts:
        assert not set(part.labels("val")) & set(part.labels("train"))
        assert set(part.labels("val")) | set(part.labels("train")) == set(range(n_classes))


def test_the_test_set_is_the_same_for_every_fold_and_shares_no_class_with_it() -> None:
    whole = split_of(12)
    for part in training_splits(whole, protocol(selection="validation", fold="all")):
        for role in ("query", "gallery"):
            np.testing.assert_array_equal(part.ids(role), whole.ids(role))
        assert not set(part.labels("query")) & (set(part.labels("train")) | set(part.labels("val")))


def test_one_fold_is_one_part_and_none_is_the_split_itself() -> None:
    whole = split_of(12)
    assert training_splits(whole, protocol()) == [whole]
    [part] = training_splits(whole, protocol(fold=2))
    np.testing.assert_array_equal(part.ids("val"), hold_out(whole, 2, 4).ids("val"))


def test_a_data_sets_own_validation_images_serve_where_no_fold_is_asked_for() -> None:
    whole = split_of(4)
    own = Split(whole.frame.assign(val=whole.frame["label"] == 3, train=whole.frame["label"] < 3), Path())
    assert training_splits(own, protocol(selection="validation")) == [own]


def test_selection_on_validation_without_a_fold_says_how_to_hold_one_out() -> None:
    with pytest.raises(UserError, match=r"no training classes are held out for it; hold some out with protocol\.fold=0"):
        training_splits(split_of(12), protocol(selection="validation"))


def test_a_fold_that_is_not_there_and_too_few_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"protocol\.fold is 4, but there are 4 folds, 0 to 3; `all`"):
        hold_out(split_of(12), 4, 4)
    with pytest.raises(UserError, match=r"7 training classes cannot be held out in 4 folds.*use protocol\.folds=3 or fewer"):
        hold_out(split_of(7), 0, 4)


def test_patience_without_validation_is_refused() -> None:
    with pytest.raises(UserError, match=r"only protocol\.selection=validation can end a training early"):
        protocol(patience=3)


@pytest.mark.parametrize(("dataset", "every", "patience"), [("cub", 2, 9), ("cars", 5, 14), ("sop", 20, 39)])
def test_the_reality_check_takes_its_patience_from_the_data_set(dataset: str, every: int, patience: int) -> None:
    cfg, _ = compose(["protocol=reality_check", f"dataset={dataset}", "loss=arcface"])
    made = typed(Protocol, "protocol", {"name": "reality_check", **OmegaConf.to_container(cfg.protocol, resolve=True)})
    assert (made.validate_every, made.patience, made.fold, made.selection) == (every, patience, "all", "validation")
    assert (cfg.optimizer["_target_"], made.lr, made.batch_size, made.steps_per_epoch) == ("torch.optim.RMSprop", 1e-6, 32, 100)
    assert (cfg.sampler.kind, cfg.sampler.pair, cfg.sampler.classification) == ("classification", 4, 1)
