"""Groups of classes: what a split records and reports about them, and which ones are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dmlbench.data.check_report import report
from dmlbench.data.datasets.cars import make_of
from dmlbench.data.datasets.cub import bird_type
from dmlbench.data.datasets.synthetic import synthetic
from dmlbench.data.split import Split
from dmlbench.data.split_rules import DRAWN_RULES, draw_roles
from dmlbench.errors import UserError

NO_GROUPS = dict.fromkeys(("class_group_kind", "class_groups_digest", "n_test_groups", "n_shared_groups"))


def made(groups: list[Any] | None, n_train: int = 3, kind: str | None = "genus") -> Split:
    """A split of six classes with two images each, of which the first are training classes."""
    labels = np.repeat(np.arange(6), 2)
    train = labels < n_train
    columns = {"path": [f"{i}.png" for i in range(12)], "label": labels, "class_name": [f"class {label}" for label in labels]}
    frame = pd.DataFrame({**columns, "train": train, "val": False, "query": ~train, "gallery": ~train})
    if groups is not None:
        frame["group"] = np.repeat(np.array(groups, dtype=object), 2)
    return Split(frame, Path(), group_kind=kind)


def group_columns(split: Split) -> dict[str, Any]:
    return {name: split.columns[name] for name in NO_GROUPS}


def test_a_row_records_the_groups_of_the_test_classes_and_how_many_also_occur_in_training() -> None:
    split = made(["cat", "cat", "dog", "dog", "owl", "elk"])
    columns = group_columns(split)
    assert (columns["class_group_kind"], columns["n_test_groups"], columns["n_shared_groups"]) == ("genus", 3, 1)
    assert split.class_groups("query") == {3: "dog", 4: "owl", 5: "elk"}
    assert group_columns(made(None)) == NO_GROUPS
    assert made(None).class_groups("query") == {}
    assert group_columns(made(["cat"] * 6, kind=None))["class_group_kind"] == "group"


def test_other_groups_of_the_test_classes_change_a_column_of_the_row_but_not_the_digest_of_the_split() -> None:
    splits = [made(groups) for groups in (["a", "b", "c", "d", "e", "f"], ["x", "b", "c", "d", "e", "f"], list("abcddf"), None)]
    assert len({split.digest for split in splits}) == 1
    digests = [split.columns["class_groups_digest"] for split in splits]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("hole", ["", " ", None, float("nan")])
def test_classes_without_a_group_are_refused(hole: Any) -> None:
    with pytest.raises(
        UserError, match=r"dataset/pets: 2 of 6 classes have images without a group, such as 'class 1' \(2.png\)"
    ):
        made(["a", hole, "c", "d", hole, "f"]).verify("pets", {})


def test_a_class_whose_images_have_different_groups_is_refused() -> None:
    split = made(["a", "b", "c", "d", "e", "f"])
    split.frame.loc[5, "group"] = "z"
    with pytest.raises(
        UserError, match="images of 1 of 6 classes have different groups, such as 'c' and 'z' in class 'class 2'"
    ):
        split.verify("pets", {})


def test_the_report_gives_the_sizes_of_the_groups_and_says_which_span_training_and_test() -> None:
    split = made(["cat", "cat", "dog", "dog", "owl", "owl"])
    lines = [line for line in report("Pets", replace(split, frame=split.frame.assign(content="x"))) if "groups  " in line]
    assert lines == [
        "groups     training classes: 2 groups (genus) of 1 (dog) to 2 (cat) classes",
        "groups     test classes: 2 groups (genus) of 1 (dog) to 2 (owl) classes",
        "groups     1 of 2 groups of the test classes also occur in training, such as 'dog'",
    ]


# ---- random splits


def drawn(split: Split, rule: str, seed: int) -> set[int]:
    frame, _ = draw_roles(rule, split.frame, seed)
    assert (frame["query"] == ~frame["train"]).all()
    return set(frame.loc[frame["train"], "label"])


def test_random_classes_are_half_of_the_classes_and_differ_between_seeds() -> None:
    splits = [drawn(made(None), "random_classes", seed) for seed in range(8)]
    assert {len(labels) for labels in splits} == {3}
    assert len({tuple(labels) for labels in splits}) > 3
    assert drawn(made(None), "random_classes", 0) == splits[0]


def test_random_groups_keep_each_group_on_one_side_and_train_on_about_half_of_the_classes() -> None:
    split = made(["a", "b", "b", "c", "c", "d"])
    by_group = ({0}, {1, 2}, {3, 4}, {5})
    splits = [drawn(split, "random_groups", seed) for seed in range(8)]
    assert all(group <= labels or not group & labels for labels in splits for group in by_group)
    assert {len(labels) for labels in splits} <= {2, 3, 4}
    assert len({tuple(labels) for labels in splits}) > 2


def test_random_draws_what_the_default_split_separates() -> None:
    separated, spanning = made(["a", "b", "b", "c", "d", "d"]), made(["a", "b", "c", "a", "b", "c"])
    for seed in range(4):
        assert drawn(separated, "random", seed) == drawn(separated, "random_groups", seed)
        assert drawn(spanning, "random", seed) == drawn(spanning, "random_classes", seed)
        assert drawn(made(None), "random", seed) == drawn(made(None), "random_classes", seed)


@pytest.mark.parametrize(("groups", "reason"), [(None, "the data set has none"), (["a"] * 6, "all classes are in 'a'")])
def test_random_groups_of_a_data_set_without_several_groups_are_refused(groups: list[str] | None, reason: str) -> None:
    with pytest.raises(UserError, match=f"needs two or more groups, but {reason}; use dataset.split=random_classes"):
        draw_roles("random_groups", made(groups).frame, 0)


# ---- data sets


def test_groups_of_synthetic_classes_have_similar_shapes_and_do_not_change_the_images(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"classes": 12, "images_per_class": 2, "image_px": 16}
    plain, grouped = synthetic(str(tmp_path), **arguments), synthetic(str(tmp_path), **arguments, groups=6)
    assert plain.digest == grouped.digest
    assert "group" not in plain.frame
    by_group = grouped.frame.groupby("group")
    assert by_group.ngroups == 6
    assert set(by_group["label"].nunique()) == {2}
    shape = grouped.frame["class_name"].str.split().str[0]
    assert (shape.groupby(grouped.frame["group"]).nunique() == 1).sum() >= 3
    assert grouped.columns["class_group_kind"] == "similar shapes"
    for rule in DRAWN_RULES:
        assert synthetic(str(tmp_path), **arguments, groups=6, split=rule).facts["images"] == 24
    assert synthetic(str(tmp_path), **arguments, groups=6, split="random_groups").columns["n_shared_groups"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"groups": 1}, "groups is 1, but must be a whole number from 2 to 6"), ({"split": "randum"}, "did you mean 'random'")],
)
def test_impossible_groups_and_splits_of_synthetic_classes_are_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        synthetic(str(tmp_path), classes=12, images_per_class=2, image_px=16, **arguments)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("AM General Hummer SUV 2000", "AM General"),
        ("Aston Martin Virage Coupe 2012", "Aston Martin"),
        ("Land Rover LR2 SUV 2012", "Land Rover"),
        ("Rolls-Royce Ghost Sedan 2012", "Rolls-Royce"),
        ("Ram C/V Cargo Van Minivan 2012", "Ram"),
        ("Dodge Ram Pickup 3500 Crew Cab 2010", "Dodge"),
    ],
)
def test_the_make_of_a_car_is_the_first_word_of_its_name_or_two(name: str, make: str) -> None:
    assert make_of(name) == make


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("001.Black_footed_Albatross", "Albatross"),
        ("034.Gray_crowned_Rosy_Finch", "Finch"),
        ("092.Nighthawk", "Nighthawk"),
        ("022.Chuck_will_Widow", "Nightjar"),
        ("105.Whip_poor_Will", "Nightjar"),
        ("126.Nelson_Sharp_tailed_Sparrow", "Sparrow"),
    ],
)
def test_the_type_of_a_bird_is_the_last_word_of_its_name(name: str, kind: str) -> None:
    assert bird_type(name) == kind
