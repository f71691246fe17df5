"""Generated images: classes differ in two attributes, boxes contain the shapes, and equal arguments give equal files."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmlbench.data.datasets.synthetic import PROPERTIES, synthetic
from dmlbench.data.images import read_image
from dmlbench.data.split import Split
from dmlbench.errors import UserError


def values_of(split: Split, name: str) -> pd.Series:
    """The value of a property of each image, from the attributes."""
    assert split.attributes is not None
    names = [one.partition("::") for one in split.attributes.names]
    of_property = [column for column, (kind, _, _) in enumerate(names) if kind == name]
    present = split.attributes.values[:, of_property]
    assert (present.sum(axis=1) == 1).all()
    return pd.Series([names[of_property[column]][2] for column in present.argmax(axis=1)])


def values_of_all(split: Split) -> pd.DataFrame:
    return pd.DataFrame({name: values_of(split, name) for name in PROPERTIES})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return synthetic(str(tmp_path_factory.mktemp("synthetic")), images_per_class=4)


def test_half_of_the_classes_are_training_classes_and_the_others_test_classes(made: Split) -> None:
    assert made.facts == {
        "images": 192,
        "train_classes": 24,
        "train_images": 96,
        "test_classes": 24,
        "query_images": 96,
        "gallery_images": 96,
    }
    assert not set(made.labels("train")) & set(made.labels("query"))


def test_any_two_classes_differ_in_at_least_two_attributes(made: Split) -> None:
    by_label = values_of_all(made).groupby(made.frame["label"])
    classes = by_label.first().to_numpy()
    assert min((one != other).sum() for one, other in combinations(classes, 2)) >= 2
    assert (by_label.nunique() == 1).all(axis=None)


@pytest.mark.parametrize(("name", "values"), PROPERTIES.items(), ids=list(PROPERTIES))
def test_training_and_test_classes_have_the_same_attribute_values(made: Split, name: str, values: list[str]) -> None:
    column = values_of(made, name)
    assert set(column[made.frame["train"]]) == set(column[made.frame["query"]]) == set(values)


def test_a_box_is_inside_its_image_and_larger_for_large_shapes(made: Split) -> None:
    frame = made.frame
    assert (frame[["x", "y"]] >= 0).all(axis=None)
    assert (frame["x"] + frame["width"] <= 64).all()
    assert (frame["y"] + frame["height"] <= 64).all()
    sides = frame[["width", "height"]].max(axis=1).groupby(values_of(made, "size")).mean()
    assert sides["large"] > 1.2 * sides["small"]


def test_the_box_contains_the_colour_of_the_class(made: Split) -> None:
    """The fraction of strongly red pixels inside the box, for red shapes and for others."""
    shares = {}
    for red in (True, False):
        rows = made.frame[(values_of(made, "colour") == "red") == red]
        inside = []
        for image_id, row in rows.iterrows():
            r, g, b = read_image(made.paths()[image_id]).numpy().astype(float)
            box = np.s_[int(row.y) : int(row.y + row.height), int(row.x) : int(row.x + row.width)]
            inside.append(((r > 1.5 * g) & (r > 1.5 * b))[box].mean())
        shares[red] = np.mean(inside)
    assert shares[True] > 4 * shares[False]


def test_equal_arguments_give_equal_files_and_another_seed_gives_others(made: Split, tmp_path: Path) -> None:
    again = synthetic(str(tmp_path), images_per_class=4)
    assert again.digest == made.digest
    assert [p.read_bytes() for p in again.paths()] == [p.read_bytes() for p in made.paths()]
    other = synthetic(str(tmp_path), images_per_class=2, image_px=16, split_seed=1)
    same_size = synthetic(str(tmp_path), images_per_class=2, image_px=16)
    assert other.digest != same_size.digest
    assert other.paths()[0].read_bytes() != same_size.paths()[0].read_bytes()


def test_attributes_are_the_name_of_the_class_value_by_value_and_only_those_that_occur(made: Split, tmp_path: Path) -> None:
    assert made.n_attributes == 6 + 6 + 4 + 2
    assert values_of_all(made).agg(" ".join, axis=1).tolist() == made.frame["class_name"].tolist()
    few = synthetic(str(tmp_path), classes=4, images_per_class=2, image_px=16)
    assert few.attributes is not None
    assert values_of_all(few).agg(" ".join, axis=1).tolist() == few.frame["class_name"].tolist()
    assert few.attributes.values.any(axis=0).all()


def test_images_roles_and_digest_are_those_from_before_there_were_attributes(made: Split) -> None:
    assert made.digest == "51215696b9d72974"
    assert hashlib.sha256("".join(made.frame["path"]).encode()).hexdigest()[:8] == "5c432e67"


def test_no_image_repeats(made: Split) -> None:
    assert len({path.read_bytes() for path in made.paths()}) == len(made.frame)


def test_numbers_of_classes_and_images_and_their_size_are_those_of_the_arguments(tmp_path: Path) -> None:
    split = synthetic(str(tmp_path), classes=5, images_per_class=2, image_px=24)
    assert (split.facts["train_classes"], split.facts["test_classes"]) == (2, 3)
    assert read_image(split.paths()[0]).shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("argument", "value", "least", "most"),
    [("classes", 49, 4, 48), ("images_per_class", 1, 2, 1000), ("image_px", 8, 16, 512), ("classes", "many", 4, 48)],
)
def test_an_argument_out_of_range_is_refused_with_the_range(
    tmp_path: Path, argument: str, value: int, least: int, most: int
) -> None:
    with pytest.raises(UserError, match=f"dataset/synthetic: {argument} is .*{value}.*whole number from {least} to {most}"):
        synthetic(str(tmp_path), **{argument: value})


def test_queries_can_be_separated_from_the_gallery(tmp_path: Path) -> None:
    split = synthetic(str(tmp_path), classes=6, images_per_class=4, image_px=16, separate_queries=True)
    frame = split.frame
    assert not (frame["query"] & frame["gallery"]).any()
    assert (frame["train"] | frame["query"] | frame["gallery"]).all()
    by_class = frame[~frame["train"]].groupby("label")
    assert set(by_class["query"].sum()) == set(by_class["gallery"].sum()) == {2}
    together = synthetic(str(tmp_path), classes=6, images_per_class=4, image_px=16)
    assert together.frame["path"].tolist() == frame["path"].tolist()  # the same images with other roles
    assert together.digest != split.digest
