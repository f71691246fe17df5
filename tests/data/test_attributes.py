"""Binary attributes of a split: what they refuse, and that they stay with their images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmlbench.data.attributes import Attributes, one_hot
from dmlbench.data.folds import hold_out
from dmlbench.data.split import Split
from dmlbench.errors import UserError

NAN = float("nan")


def make_split(n_classes: int = 8, per_class: int = 2) -> Split:
    """Half of the classes are training classes. Attribute `bit k` is the k-th bit of the image's id, unknown for image 3."""
    labels = np.repeat(np.arange(n_classes), per_class)
    train = labels < n_classes // 2
    columns = {"path": [f"{i}.png" for i in range(len(labels))], "label": labels, "class_name": labels.astype(str)}
    frame = pd.DataFrame({**columns, "train": train, "val": False, "query": ~train, "gallery": ~train})
    values = (np.arange(len(labels))[:, None] >> np.arange(5) & 1).astype(np.float32)
    values[3] = NAN
    return Split(frame, Path("root"), attributes=Attributes(tuple(f"bit {k}" for k in range(5)), values))


def numbers(split: Split) -> list[float]:
    """The id that the attributes of each image encode; NaN for unknown."""
    assert split.attributes is not None
    return (split.attributes.values @ 2 ** np.arange(5)).tolist()


def ids_in_names(split: Split) -> list[float]:
    found = [float(path.removesuffix(".png")) for path in split.frame["path"]]
    return [NAN if one == 3 else one for one in found]


@pytest.mark.parametrize(
    ("names", "values", "problem"),
    [
        ((), np.zeros((2, 0)), "at least one attribute"),
        (("a", " "), np.zeros((2, 2)), "an attribute has an empty name"),
        (("a", "b", "a"), np.zeros((2, 3)), "the attribute 'a' is listed 2 times"),
        (("a",), np.zeros((2, 2)), r"1 attributes need values of shape \(N, 1\), not \(2, 2\)"),
        (("a",), np.zeros(2), r"not \(2,\)"),
        (("a", "b"), [[0, 1], [1, 0.5]], "'b' of image 1 is 0.5; it must be 0, 1, or NaN"),
        (("a",), [[-1]], "'a' of image 0 is -1"),
        (("a",), [[float("inf")]], "is inf"),
    ],
)
def test_attributes_have_unique_names_and_the_values_0_1_and_nan(names: tuple[str, ...], values: list, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Attributes(names, np.asarray(values))


def test_attributes_of_another_number_of_images_are_refused() -> None:
    split = make_split()
    with pytest.raises(ValueError, match="a split of 16 images has attributes of 2 images"):
        replace(split, attributes=Attributes(("a",), np.zeros((2, 1))))


def test_values_are_float32_whatever_is_given() -> None:
    assert Attributes(("a",), np.array([[True], [False]])).values.dtype == np.float32


def test_attributes_stay_with_their_images_when_others_are_left_out() -> None:
    split = make_split()
    assert ids_in_names(split)[4:] == numbers(split)[4:] == [float(i) for i in range(4, 16)]
    for part in (split, split.without(np.array([9, 0])), split.without(np.array([1])).training(), split.training()):
        np.testing.assert_equal(numbers(part), ids_in_names(part))
    for fold in range(2):
        part = hold_out(split, fold, 2)
        np.testing.assert_equal(numbers(part), ids_in_names(part))
        np.testing.assert_equal(numbers(part.training()), ids_in_names(part.training()))


def test_the_digest_of_a_split_does_not_cover_its_attributes() -> None:
    split = make_split()
    assert replace(split, attributes=None).digest == split.digest
    assert replace(split, attributes=None).facts == split.facts


def test_the_digest_of_attributes_covers_names_values_and_missing_values() -> None:
    names, values = ("a", "b"), np.array([[0, 1], [1, NAN]], dtype=np.float32)
    attributes = Attributes(names, values)
    others = [
        Attributes(("a", "c"), values),
        Attributes(names, np.array([[0, 1], [1, 0]])),
        Attributes(names, np.array([[0, 1], [1, 1]])),
        Attributes(names, values[::-1]),
    ]
    assert len({attributes.digest, *(other.digest for other in others)}) == 5
    assert attributes.digest == Attributes(names, np.asfortranarray(values, dtype=np.float64)).digest
    assert len(attributes.digest) == 16


def test_rows_record_the_number_of_attributes_only_if_there_are_some() -> None:
    split = make_split()
    assert split.columns["n_attributes"] == split.n_attributes == 5
    without = replace(split, attributes=None)
    assert without.n_attributes == 0
    assert "n_attributes" not in without.columns


def test_a_declared_number_of_attributes_is_compared_if_attributes_were_read() -> None:
    split = make_split()
    split.verify("birds", {"n_attributes": 5})
    replace(split, attributes=None).verify("birds", {"n_attributes": 312})
    with pytest.raises(UserError, match=r"dataset/birds: n_attributes is declared as 312 but the files under root have 5"):
        split.verify("birds", {"n_attributes": 312})


def test_one_hot_makes_one_attribute_for_each_value_that_occurs_in_the_given_order() -> None:
    properties = pd.DataFrame({"hue": ["red", "blue", "red"], "size": ["big", "big", "big"]})
    made = one_hot(properties, {"size": ["small", "big"], "hue": ["blue", "green", "red"]})
    assert made.names == ("size::big", "hue::blue", "hue::red")
    np.testing.assert_array_equal(made.values, [[1, 0, 1], [1, 1, 0], [1, 0, 1]])
