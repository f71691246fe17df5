"""The attributes of CUB and In-Shop are read from their published files, and everything else is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import annotation_factory as make
import numpy as np
import pytest

from dmlbench.data.datasets.cub import cub
from dmlbench.data.datasets.inshop import inshop
from dmlbench.errors import UserError

LABELS = "attributes/image_attribute_labels.txt"


@pytest.fixture(scope="module")
def cub_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parent of `CUB_200_2011/`. It must not be changed."""
    return make.cub(tmp_path_factory.mktemp("cub")).parent


@pytest.fixture
def cub_copy(cub_archive: Path, tmp_path: Path) -> Path:
    """A `CUB_200_2011/` whose lists may be changed; its images are links."""
    return Path(shutil.copytree(cub_archive, tmp_path / "copy", copy_function=_link_images)) / "CUB_200_2011"


def _link_images(source: str, target: str) -> None:
    Path(target).symlink_to(source) if source.endswith(".jpg") else shutil.copy(source, target)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make.inshop(tmp_path / "shop")


def replace_line(file: Path, number: int, line: str) -> None:
    lines = file.read_text().splitlines()
    lines[number] = line
    file.write_text("\n".join(line for line in lines if line) + "\n")


# ---- CUB


@pytest.mark.parametrize(("min_certainty", "missing"), [(1, ()), (2, (1,)), (3, (1, 2)), (4, (1, 2, 3))])
def test_the_312_attributes_of_cub_are_missing_where_their_annotator_was_less_certain(
    cub_archive: Path, min_certainty: int, missing: tuple[int, ...]
) -> None:
    attributes = cub(str(cub_archive), min_certainty=min_certainty).attributes
    assert attributes is not None
    assert attributes.names[:2] == ("has_part::value_1", "has_part::value_2")
    numbers = np.arange(1, 401)[:, None] + np.arange(1, 313)
    expected = np.where(np.isin(1 + numbers % 4, missing), np.nan, numbers % 7 == 0)
    np.testing.assert_array_equal(attributes.values, expected.astype(np.float32))


def test_attributes_of_cub_are_by_default_missing_if_they_are_not_visible(cub_archive: Path) -> None:
    by_default, explicit = cub(str(cub_archive)).attributes, cub(str(cub_archive), min_certainty=2).attributes
    assert by_default is not None
    assert explicit is not None
    assert by_default.digest == explicit.digest


def test_images_of_another_order_keep_their_attributes(cub_copy: Path) -> None:
    before = cub(str(cub_copy))
    lines = (cub_copy / "images.txt").read_text().splitlines()
    (cub_copy / "images.txt").write_text("\n".join(lines[::-1]))
    after = cub(str(cub_copy))
    assert before.attributes is not None
    assert after.attributes is not None
    assert before.frame["path"].tolist() == after.frame["path"].tolist()[::-1]
    np.testing.assert_array_equal(before.attributes.values, after.attributes.values[::-1])


def test_cub_without_attributes_is_the_same_split_and_says_how_to_get_them(cub_copy: Path) -> None:
    complete = cub(str(cub_copy))
    not_wanted = cub(str(cub_copy), attributes=None)
    assert (not_wanted.attributes, not_wanted.attributes_hint) == (None, "read them with dataset.attributes=published")
    (cub_copy.parent / "attributes.txt").rename(cub_copy / "attributes" / "attributes.txt")
    assert cub(str(cub_copy)).n_attributes == 312
    (cub_copy / LABELS).unlink()
    absent = cub(str(cub_copy))
    assert absent.attributes is None
    assert absent.attributes_hint == f"put {LABELS}, as published, into the directory of the data set"
    assert complete.digest == not_wanted.digest == absent.digest


@pytest.mark.parametrize(
    ("number", "line", "problem"),
    [
        (0, "", "has no value for 1 attributes of images"),
        (0, "1 2 0 3 1.5", "has no value for 1 attributes of images"),
        (0, "1 1 1 3 1.5\n1 1 1 3 1.5", "has several values for 1 attributes"),
        (7, "401 8 0 3 1.5", "has '401 8 0 3', whose image_id is not known"),
        (7, "1 313 0 3 1.5", "has '1 313 0 3', whose attribute_id is not known"),
        (7, "1 8 2 3 1.5", "has '1 8 2 3', whose is_present is not known"),
        (7, "1 8 1 5 1.5", "has '1 8 1 5', whose certainty_id is not known"),
        (7, "1 8 1", "cannot be read as 4 whole numbers per line"),
        (7, "1 8 yes 3 1.5", "cannot be read as 4 whole numbers per line: .*yes"),
    ],
)
def test_a_line_that_the_published_list_does_not_have_is_refused_with_a_way_out(
    cub_copy: Path, number: int, line: str, problem: str
) -> None:
    replace_line(cub_copy / LABELS, number, line)
    with pytest.raises(UserError, match=rf"image_attribute_labels\.txt {problem}.*; dataset\.attributes=null reads no attr"):
        cub(str(cub_copy))
    assert cub(str(cub_copy), attributes=None).n_attributes == 0


def test_a_wrong_number_of_attributes_and_a_wrong_option_are_refused(cub_copy: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.make\.min_certainty is 5; it must be 1 to 4 \(1 not visible, 2 guessing"):
        cub(str(cub_copy), min_certainty=5)
    with pytest.raises(UserError, match=r"dataset\.attributes is 'all'; it must be 'published', or null to read no attributes"):
        cub(str(cub_copy), attributes="all")
    names = cub_copy.parent / "attributes.txt"
    names.write_text(names.read_text().replace("7 has_part", "8 has_part", 1))
    with pytest.raises(UserError, match=r"attributes\.txt does not number its attributes from 1 to 312"):
        cub(str(cub_copy))


# ---- In-Shop


def test_the_463_attributes_of_inshop_are_those_of_the_item(shop: Path) -> None:
    attributes = inshop(str(shop)).attributes
    assert attributes is not None
    assert (len(attributes.names), attributes.names[0]) == (463, "with part 0")
    np.testing.assert_array_equal(attributes.values[4:8], [[(k + 1) % 5 == 0 for k in range(463)]] * 4)


def test_a_zero_in_the_list_of_inshop_is_a_missing_value_and_repeated_names_are_numbered(shop: Path) -> None:
    file = shop / "Anno/attributes/list_attr_items.txt"
    replace_line(file, 2, "id_00000001 " + " ".join(["0", "1", *["-1"] * 461]))
    replace_line(shop / "Anno/attributes/list_attr_cloth.txt", 3, "with part 0")
    attributes = inshop(str(shop)).attributes
    assert attributes is not None
    np.testing.assert_array_equal(attributes.values[0, :3], [np.nan, 1, 0])
    assert attributes.names[:3] == ("with part 0", "with part 0 (2)", "with part 2")


def test_lines_of_an_item_that_contradict_each_other_give_missing_values(shop: Path) -> None:
    file = shop / "Anno/attributes/list_attr_items.txt"
    before = inshop(str(shop)).attributes
    first, second = file.read_text().splitlines()[2:4]
    replace_line(file, 3, f"{first}\n{second}\n{second.replace('-1', '1', 2)}")
    after = inshop(str(shop)).attributes
    assert before is not None
    assert after is not None
    changed = np.argwhere(np.isnan(after.values))
    assert changed.tolist() == [[image, attribute] for image in range(4, 8) for attribute in (0, 1)]
    known = ~np.isnan(after.values)
    np.testing.assert_array_equal(after.values[known], before.values[known])


def test_inshop_without_the_lists_of_attributes_is_the_same_split_and_says_what_is_missing(shop: Path) -> None:
    complete = inshop(str(shop))
    assert inshop(str(shop), attributes=None).attributes_hint == "read them with dataset.attributes=published"
    shutil.rmtree(shop / "Anno/attributes")
    absent = inshop(str(shop))
    assert absent.attributes is None
    assert "Anno/attributes/list_attr_cloth.txt and Anno/attributes/list_attr_items.txt" in absent.attributes_hint
    assert complete.digest == absent.digest


@pytest.mark.parametrize(
    ("number", "line", "problem"),
    [
        (2, "id_00000001 1 1", r"list_attr_items\.txt, line 3: 2 attributes, but list_attr_cloth\.txt lists 463"),
        (3, "id_00000002 1 1", "cannot be read as 464 whole numbers per line"),
        (3, "", r"does not list 1 of the items, such as id_00000002"),
        (3, "id_00000002" + 462 * " 1" + " 2", r"'with part 462' of id_00000002 is 2; it must be 1 \(yes\), -1 \(no\) or 0"),
    ],
)
def test_a_list_of_items_that_is_not_the_published_one_is_refused(shop: Path, number: int, line: str, problem: str) -> None:
    replace_line(shop / "Anno/attributes/list_attr_items.txt", number, line)
    with pytest.raises(UserError, match=problem):
        inshop(str(shop))
