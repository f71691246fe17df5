"""Splits: what they refuse, and what their digest sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmlbench.data.split import Split
from dmlbench.errors import UserError


def split(tmp_path: Path, labels: tuple[int, ...] = (0, 0, 1, 1, 2, 2), n_train: int = 2, **columns: Any) -> Split:
    for k in range(len(labels)):
        if not (tmp_path / f"{k}.png").exists():
            Image.fromarray(np.random.default_rng(k).integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    train = np.arange(len(labels)) < n_train
    frame = {"path": [f"{k}.png" for k in range(len(labels))], "label": labels, "class_name": list(map(str, labels))}
    roles = {"train": train, "val": False, "query": ~train, "gallery": ~train}
    return Split(pd.DataFrame(frame | roles | columns), tmp_path)


def test_labels_with_gaps_are_a_bug_of_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without gaps"):
        split(tmp_path, (0, 0, 2, 2, 3, 3))


def test_ids_are_lines_of_the_frame(tmp_path: Path) -> None:
    made = split(tmp_path)
    assert made.ids("train").tolist() == [0, 1]
    assert made.ids("gallery").tolist() == [2, 3, 4, 5]
    assert made.labels("query").tolist() == [1, 1, 2, 2]


def test_a_fact_that_the_files_do_not_confirm_is_refused_with_both_numbers(tmp_path: Path) -> None:
    made = split(tmp_path)
    made.verify("pets", {"train_images": 2, "test_classes": None})
    with pytest.raises(UserError, match=r"dataset/pets: train_images is declared as 5,864 but the files under .* have 2"):
        made.verify("pets", {"train_images": 5864})


def test_a_split_without_training_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset/pets: the split has no train classes"):
        split(tmp_path, n_train=0).verify("pets", {})


def test_a_split_in_which_no_query_can_find_anything_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dataset/pets: no query has another image of its class in the gallery"):
        split(tmp_path, (0, 0, 1, 2, 3)).verify("pets", {})


@pytest.mark.parametrize("column", ["path", "label", "train", "query", "x", "size_bytes"])
def test_the_digest_sees_paths_labels_roles_boxes_and_sizes(tmp_path: Path, column: str) -> None:
    extra = {"x": [0.0] * 6, "y": [0.0] * 6, "width": [1.0] * 6, "height": [1.0] * 6, "size_bytes": [9] * 6}
    made = split(tmp_path, **extra)
    frame = made.frame.copy()
    changed = {"path": "other.png", "label": 0, "x": 1.0, "size_bytes": 10}
    frame.loc[5, column] = changed.get(column, not frame.loc[5, column])
    assert Split(frame, tmp_path).digest != made.digest


def test_the_digest_does_not_see_attributes_or_the_root(tmp_path: Path) -> None:
    made = split(tmp_path)
    assert Split(made.frame.assign(attribute_colour="red"), Path("elsewhere")).digest == made.digest


def test_leaving_images_out_numbers_ids_and_labels_anew_and_counts(tmp_path: Path) -> None:
    made = split(tmp_path).without(np.array([2, 3]))
    assert made.frame["path"].tolist() == ["0.png", "1.png", "4.png", "5.png"]
    assert made.frame["label"].tolist() == [0, 0, 1, 1]
    assert made.ids("query").tolist() == [2, 3]
    assert made.n_skipped == 2


def test_the_classes_of_a_role_are_named_by_their_labels(tmp_path: Path) -> None:
    made = split(tmp_path, labels=(0, 0, 2, 2, 1, 1))
    assert list(made.class_names("query").items()) == [(1, "1"), (2, "2")]
