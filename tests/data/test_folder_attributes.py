"""Attributes of a user's images: columns of the manifest or a second CSV file, and everything that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmlbench.config.schema import Dataset
from dmlbench.data.attributes import Attributes
from dmlbench.data.datasets.image_folder import folder
from dmlbench.errors import UserError

NAN = float("nan")
MANIFEST = """file,label,role,has_ears,has_fur,wings,hue
b/1.png,dog,train,1,1,,brown
a/1.png,cat,train,0,,0,red
c/1.png,owl,test,1.0,0.0,1,white
d/1.png,bat,test, 1 ,1,1,black
"""
OTHER = "image,purrs,flies\n./a/1.png,1,0\nd/1.png,,1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images of four classes, a manifest of them in another order, and a second CSV file that lists two of them."""
    for name in "abcd":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"x")
    (tmp_path / "list.csv").write_text(MANIFEST)
    (tmp_path / "other.csv").write_text(OTHER)
    return tmp_path


def attributes_of(root: Path, attributes: Any, manifest: str | None = "list.csv") -> Attributes:
    made = folder(str(root), manifest, attributes=attributes).attributes
    assert made is not None
    return made


def test_a_pattern_selects_columns_of_the_manifest_in_their_order_and_empty_text_is_missing(root: Path) -> None:
    made = attributes_of(root, ["wings", "HAS_*", "has_ears"])
    assert made.names == ("has_ears", "has_fur", "wings")
    np.testing.assert_array_equal(made.values, [[1, 1, NAN], [0, NAN, 0], [1, 0, 1], [1, 1, 1]])
    assert attributes_of(root, "has_*").names == ("has_ears", "has_fur")


def test_a_csv_file_gives_images_their_attributes_by_path_and_images_that_it_lacks_have_none(root: Path) -> None:
    made = attributes_of(root, "other.csv")
    assert made.names == ("purrs", "flies")
    np.testing.assert_array_equal(made.values, [[NAN, NAN], [1, 0], [NAN, NAN], [NAN, 1]])
    np.testing.assert_array_equal(
        attributes_of(root, str(root / "other.csv"), None).values, [[1, 0], [NAN, NAN], [NAN, NAN], [NAN, 1]]
    )


def test_columns_of_a_csv_file_that_have_another_meaning_in_a_manifest_are_no_attributes(root: Path) -> None:
    (root / "more.csv").write_text("path,label,class_name,purrs\na/1.png,1,cat,1\nb/1.png,0,dog,0\n")
    assert attributes_of(root, "more.csv").names == ("purrs",)


def test_attributes_change_neither_the_digest_nor_the_columns_of_the_frame(root: Path) -> None:
    plain, described = folder(str(root), "list.csv"), folder(str(root), "list.csv", attributes=["has_*"])
    assert plain.digest == described.digest
    assert list(plain.frame.columns) == list(described.frame.columns)
    assert plain.attributes is None
    assert "dataset.attributes=FILE" in plain.attributes_hint


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            ["has_*", "horn*"],
            r"no column of .*list\.csv matches 'horn\*'; columns that can be attributes: has_ears, has_fur, wi",
        ),
        (["label"], r"no column of .*list\.csv matches 'label'"),
        ([], r"no column of .*list\.csv matches ''"),
        (["*"], r"the column 'hue' of .*list\.csv has the value 'brown'; attributes must be 0, 1, or empty if it is not known"),
        ("gone.csv", r"dataset\.attributes 'gone\.csv' does not exist, neither as a path nor under"),
    ],
)
def test_attributes_that_the_manifest_does_not_have_are_refused(root: Path, attributes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        folder(str(root), "list.csv", attributes=attributes)


def test_columns_need_a_manifest(root: Path) -> None:
    (root / "list.csv").unlink()
    with pytest.raises(
        UserError, match=r"^dataset\.attributes=\[has_\*\] needs dataset\.manifest=FILE, a CSV file with such c"
    ):
        folder(str(root), attributes=["has_*"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo,purrs\na/1.png,1\n", r"other\.csv has no column path; it has photo, purrs"),
        ("path\na/1.png\n", r"other\.csv has no column besides the path"),
        ("path,purrs\na/1.png,1\n./a/1.png,0\n", r"other\.csv repeats 1 of its images, such as a/1\.png"),
        ("path,purrs\nz/1.png,1\na/1.png,0\n", r"other\.csv: 1 of 2 paths are not images of the data set, such as z/1\.png"),
        ("path,purrs\na/1.png,2\n", r"the column 'purrs' of .*other\.csv has the value '2'; attributes must be 0, 1, or empty"),
        ("path,purrs\na/1.png,nan\nb/1.png,1\n", r"the column 'purrs' of .*other\.csv has the value 'nan'"),
        (
            "path,purrs\na/1.png,0\n",
            r"no image has the attribute 'purrs' of .*other\.csv \(1 values are 0 and 3 are missing\); ",
        ),
        (
            "path,purrs\na/1.png,\n",
            r"no image has the attribute 'purrs' of .*other\.csv \(0 values are 0 and 4 are missing\); l",
        ),
        ("path,purrs,purrs\na/1.png,1,0\n", r"other\.csv has 2 columns called 'purrs'; give each a name of its own"),
        ("path;purrs\na/1.png;1\n", r"other\.csv has no column path; it has path;purrs; values must be separated by commas"),
        ("path,purrs\na/1.png,1,1\n", r"other\.csv cannot be read as CSV: .*Expected 2 fields in line 2, saw 3"),
        ('path,purrs\n"a', r"dataset\.attributes .*other\.csv cannot be read as CSV"),
    ],
)
def test_a_csv_file_of_attributes_that_does_not_fit_the_images_is_refused(root: Path, text: str, message: str) -> None:
    (root / "other.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        folder(str(root), attributes="other.csv")


def test_attributes_of_a_data_set_that_takes_none_are_refused() -> None:
    make = {"_target_": "dmlbench.data.datasets.omniglot.omniglot", "root": "data"}
    for value, text in (("a.csv", "a.csv"), (("b_*", "c"), r"\[b_\*,c\]")):
        with pytest.raises(UserError, match=rf"dataset\.attributes={text} has no effect with dataset/omniglot, whose make"):
            Dataset(recall_at=(1,), make=make, name="omniglot", label="Omniglot", attributes=value)
