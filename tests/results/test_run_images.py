"""The list of a run's images: what a run writes is read again, and anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rows_factory import make_row

from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages, read_run_images
from dmlbench.runs.image_list import find_images, images_of, write_images

HASH = "0" * 63 + "a"
GOOD: dict[str, Any] = {"root": "photos", "ids": [3, 5], "paths": ["a/1.png", "ü 2.png"], "sha256": [HASH, ""], "boxes": None}


def split(root: Path) -> Split:
    test = [False, True, True, True]
    frame = pd.DataFrame(
        {
            "path": ["a/0.png", "b/1.png", "b/2.png", "b/ü.png"],
            "label": [0, 1, 1, 1],
            "class_name": ["a", "b", "b", "b"],
            **{"train": [True, False, False, False], "val": False, "query": [False, True, False, True], "gallery": test},
            **{"x": 1.0, "y": 2.0, "width": 3.5, "height": [4.0, 5.0, 6.0, 7.0]},
            "content": [HASH] * 3 + [""],
        }
    )
    return Split(frame, root)


def row_in(folder: Path) -> Row:
    return Row(make_row().columns, folder)


def test_the_list_that_a_run_writes_is_read_again(tmp_path: Path) -> None:
    expected = RunImages(
        root=tmp_path / "photos",
        ids=[1, 2, 3],
        paths=["b/1.png", "b/2.png", "b/ü.png"],
        sha256=[HASH, HASH, ""],
        boxes=[[1.0, 2.0, 3.5, height] for height in (5.0, 6.0, 7.0)],
    )
    write_images(tmp_path, split(tmp_path / "photos"))
    assert read_run_images(tmp_path) == expected
    assert images_of(split(tmp_path), training=True).ids == [0, 1, 2, 3]
    assert expected.index == {1: 0, 2: 1, 3: 2}


def test_boxes_with_missing_values_and_hashes_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    without = split(tmp_path)
    frame = without.frame.assign(x=float("nan")).drop(columns="content")
    found = images_of(Split(frame, tmp_path))
    assert (found.boxes, found.sha256) == (None, None)


def test_a_run_of_an_earlier_version_has_no_list(tmp_path: Path) -> None:
    assert read_run_images(tmp_path) is None


WRONG: dict[str, Any] = {
    "no object": [],
    "no root": {**GOOD, "root": None},
    "equal ids": {**GOOD, "ids": [3, 3]},
    "ids that are no numbers": {**GOOD, "ids": [True, 5]},
    "no ids": {**GOOD, "ids": None},
    "fewer paths": {**GOOD, "paths": ["a"]},
    "a path out of the directory": {**GOOD, "paths": ["a", "b/../../c"]},
    "an absolute path": {**GOOD, "paths": ["a", "/etc/passwd"]},
    "an empty path": {**GOOD, "paths": ["a", ""]},
    "a null character": {**GOOD, "paths": ["a", "b\0"]},
    "hashes that are none": {**GOOD, "sha256": ["x", 1]},
    "boxes that are none": {**GOOD, "boxes": [[1, 2, 3], [1, 2, 3, 4]]},
}


@pytest.mark.parametrize("values", WRONG.values(), ids=WRONG.keys())
def test_a_file_with_other_contents_is_refused(tmp_path: Path, values: Any) -> None:
    (tmp_path / "images.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"images.json is not a list of images: "):
        read_run_images(tmp_path)


@pytest.mark.parametrize("text", ["{", "\x00", '{"root": 1e999}'])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "images.json").write_text(text)
    with pytest.raises(UserError, match=r"images.json (cannot be read as|is not) a list of images: "):
        read_run_images(tmp_path)


def test_images_outside_of_the_users_directories_are_only_read_if_the_user_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    photos = tmp_path / "photos"
    photos.mkdir()
    write_images(tmp_path, split(photos))
    row = row_in(tmp_path)
    with pytest.raises(UserError, match=rf"outside of the current directory .* type dataset.root={photos}$"):
        find_images(row)
    assert find_images(row, [f"dataset.root={photos}"]).root == photos
    assert find_images(row, [f"paths.data={tmp_path}"]).root == photos
    with pytest.raises(UserError, match=r"^dataset.root is 'nowhere', which is not a directory$"):
        find_images(row, ["dataset.root=nowhere"])
    monkeypatch.chdir(tmp_path)
    assert find_images(row).root == photos
    photos.rmdir()
    with pytest.raises(UserError, match=r"the directory of its images, .*photos, does not exist; type dataset.root=DIR$"):
        find_images(row)
