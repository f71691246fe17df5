"""Splits: what they refuse, and what their digest covers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmlbench.data.split import Split
from dmlbench.errors import UserError


def make_split(tmp_path: Path, labels: tuple[int, ...] = (0, 0, 1, 1, 2, 2), n_train: int = 2, **columns: Any) -> Split:
    for k in range(len(labels)):
        if not (tmp_path / f"{k}.png").exists():
            Image.fromarray(np.random.default_rng(k).integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    train = np.arange(len(labels)) < n_train
    frame = {"path": [f"{k}.png" for k in range(len(labels))], "label": labels, "class_name": list(map(str, labels))}
    roles = {"train": train, "val": False, "query": ~train, "gallery": ~train}
    return Split(pd.DataFrame(frame | roles | columns), tmp_path)


def test_labels_with_gaps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without gaps"):
        make_split(tmp_path, (0, 0, 2, 2, 3, 3))


def test_a_frame_without_a_required_column_or_with_another_index_is_refused(tmp_path: Path) -> None:
    frame = make_split(tmp_path).frame
    with pytest.raises(ValueError, match="the frame of a split has no column class_name, query"):
        Split(frame.drop(columns=["class_name", "query"]), tmp_path)
    with pytest.raises(ValueError, match=r"index of a split's frame must be 0\.\.N-1"):
        Split(frame.set_index(frame.index + 1), tmp_path)


def test_ids_are_row_numbers_of_the_frame(tmp_path: Path) -> None:
    made = make_split(tmp_path)
    assert made.ids("train").tolist() == [0, 1]
    assert made.ids("gallery").tolist() == [2, 3, 4, 5]
    assert made.labels("query").tolist() == [1, 1, 2, 2]


def test_a_declared_fact_that_differs_from_the_files_is_refused_with_both_numbers(tmp_path: Path) -> None:
    made = make_split(tmp_path)
    made.verify("pets", {"train_images": 2, "test_classes": None})
    with pytest.raises(UserError, match=r"dataset/pets: train_images is declared as 5,864 but the files under .* have 2"):
        made.verify("pets", {"train_images": 5864})


def test_a_split_without_training_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset/pets: the split has no train classes"):
        make_split(tmp_path, n_train=0).verify("pets", {})


def test_a_split_in_which_no_query_has_a_positive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset/pets: no query has another image of its class in the gallery"):
        make_split(tmp_path, (0, 0, 1, 2, 3)).verify("pets", {})


@pytest.mark.parametrize("column", ["path", "label", "train", "query", "x", "size_bytes"])
def test_the_digest_covers_paths_labels_roles_boxes_and_sizes(tmp_path: Path, column: str) -> None:
    extra = {"x": [0.0] * 6, "y": [0.0] * 6, "width": [1.0] * 6, "height": [1.0] * 6, "size_bytes": [9] * 6}
    made = make_split(tmp_path, **extra)
    frame = made.frame.copy()
    changed = {"path": "other.png", "label": 0, "x": 1.0, "size_bytes": 10}
    frame.loc[5, column] = changed.get(column, not frame.loc[5, column])
    assert Split(frame, tmp_path).digest != made.digest


def test_the_digest_covers_neither_attributes_nor_the_root(tmp_path: Path) -> None:
    made = make_split(tmp_path)
    assert Split(made.frame.assign(attribute_colour="red"), Path("elsewhere")).digest == made.digest


def test_leaving_images_out_renumbers_ids_and_labels_and_counts_the_images(tmp_path: Path) -> None:
    made = make_split(tmp_path).without(np.array([2, 3]))
    assert made.frame["path"].tolist() == ["0.png", "1.png", "4.png", "5.png"]
    assert made.frame["label"].tolist() == [0, 0, 1, 1]
    assert made.ids("query").tolist() == [2, 3]
    assert made.n_skipped == 2


def test_class_names_are_those_of_the_classes_with_a_role_in_the_order_of_their_labels(tmp_path: Path) -> None:
    made = make_split(tmp_path, labels=(0, 0, 2, 2, 1, 1))
    assert list(made.class_names("query").items()) == [(1, "1"), (2, "2")]


def test_the_training_part_has_no_test_images_and_no_test_roles(tmp_path: Path) -> None:
    made = make_split(tmp_path, labels=(2, 2, 0, 0, 1, 1), val=[False, False, True, True, False, False])
    part = made.training()
    assert part.frame["path"].tolist() == ["0.png", "1.png", "2.png", "3.png"]
    assert part.frame["label"].tolist() == [1, 1, 0, 0]
    assert not part.frame[["query", "gallery"]].any(axis=None)


def test_queries_without_positives_are_counted_also_if_the_query_is_not_in_the_gallery(tmp_path: Path) -> None:
    assert make_split(tmp_path, (0, 0, 1, 1, 2)).n_queries_without_positives == 1
    query, gallery = [False, False, True, False, True], [False, False, False, True, False]
    assert make_split(tmp_path, (0, 0, 1, 1, 2), query=query, gallery=gallery).n_queries_without_positives == 1


def test_a_test_set_of_a_single_class_is_refused_with_a_way_out(tmp_path: Path) -> None:
    sentence = (
        r"the test images have a single class, '1', so every embedding would score 100 %; .*dataset\.split=half_per_class"
    )
    with pytest.raises(UserError, match=sentence):
        make_split(tmp_path, (0, 0, 1, 1)).verify("pets", {})


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), 0.99])
def test_boxes_with_a_side_below_one_pixel_are_refused_where_they_are_used(tmp_path: Path, size: float) -> None:
    made = make_split(tmp_path, x=0.0, y=0.0, width=[8.0] * 5 + [size], height=8.0)
    made.verify("pets", {})
    with pytest.raises(UserError, match=r"1 of 6 boxes have a side below one pixel, such as that of 5\.png"):
        made.boxes()


def test_the_digest_covers_contents_only_of_the_users_own_images(tmp_path: Path) -> None:
    made = make_split(tmp_path, content=list("abcdef"))
    other = replace(made, frame=made.frame.assign(content=list("abcdeg")))
    assert made.digest != other.digest
    assert made.images_digest != other.images_digest
    assert replace(made, origin="published").digest == replace(other, origin="published").digest
    assert replace(made, origin="published").images_digest == made.images_digest
    assert replace(made, origin="generated").images_digest is None
