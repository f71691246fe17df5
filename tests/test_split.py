"""Splits: what they refuse, and what `data check` says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmlbench.data.check import duplicates, readable, report
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


def broken(tmp_path: Path) -> Split:
    made = split(tmp_path)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    (tmp_path / "5.png").write_bytes(b"")
    return made


def test_images_that_cannot_be_read_are_refused_and_the_first_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3\.png cannot be read.*on_unreadable=skip.*\(1 more like it\)"):
        readable(broken(tmp_path), "refuse", tmp_path / "stamps")
    assert not list((tmp_path / "stamps").glob("*"))


def test_images_that_cannot_be_read_are_left_out_on_request(tmp_path: Path) -> None:
    made = readable(broken(tmp_path), "skip", tmp_path / "stamps")
    assert made.n_skipped == 2
    assert made.frame["path"].tolist() == ["0.png", "1.png", "2.png", "4.png"]
    assert made.notes == ("2 images that cannot be read are left out",)


def test_a_check_that_found_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = split(tmp_path)
    assert readable(made, "refuse", tmp_path / "stamps") is made
    monkeypatch.setattr("dmlbench.data.check.unreadable", lambda split: pytest.fail("read again"))
    assert readable(made, "refuse", tmp_path / "stamps") is made


def test_byte_identical_images_are_found_across_classes_and_sides(tmp_path: Path) -> None:
    made = split(tmp_path)
    for source, copy in (("0", "4"), ("2", "3")):
        (tmp_path / f"{copy}.png").write_bytes((tmp_path / f"{source}.png").read_bytes())
    assert sorted(duplicates(made)) == [[0, 4], [2, 3]]
    said = "\n".join(report("Pets", made))
    assert "4 images in 2 groups are byte-identical, 1 across classes and 1 across training and test" in said


def test_the_report_counts_each_role_and_queries_without_a_match(tmp_path: Path) -> None:
    said = "\n".join(report("Pets", split(tmp_path, (0, 0, 1, 1, 1, 2))))
    assert "train     2 images of 1 classes (2 to 2 a class, median 2)" in said
    assert "query     4 images of 2 classes (1 to 3 a class, median 2)" in said
    assert "1 queries have no other image of their class in the gallery" in said
    assert "no two images are byte-identical" in said
