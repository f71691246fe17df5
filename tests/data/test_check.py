"""Unreadable images are refused, or skipped and counted; duplicates and queries without positives are reported."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlbench.config.schema import Dataset
from dmlbench.data import check, contents
from dmlbench.data.attributes import Attributes
from dmlbench.data.check import check_images, find_duplicates, readable_split
from dmlbench.data.check_report import check_data, report
from dmlbench.data.contents import hash_contents
from dmlbench.data.datasets.image_folder import folder
from dmlbench.data.split import Split
from dmlbench.errors import UserError


def make_split(root: Path, *, broken: tuple[str, ...] = ()) -> Split:
    """Four classes of three different images each. The files in `broken` are truncated."""
    generator = np.random.default_rng(0)
    for name in "abcd":
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"{name}/{number}.jpg")
    for path in broken:
        (root / path).write_bytes((root / path).read_bytes()[:700])
    return folder(str(root))


def hashed_folder(root: Path) -> Split:
    return hash_contents(folder(str(root)), root / ".store").split


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that the check has decoded so far."""
    paths: list[Path] = []
    read = check.read_image
    monkeypatch.setattr(check, "read_image", lambda path: (paths.append(path), read(path))[1])
    return paths


def test_unreadable_images_are_found_with_id_and_reason(tmp_path: Path) -> None:
    split = make_split(tmp_path, broken=("b/1.jpg", "d/0.jpg"))
    errors = check_images(split).errors
    assert [split.frame["path"][image_id] for image_id in errors] == ["b/1.jpg", "d/0.jpg"]
    assert all("truncated" in error for error in errors.values())


def test_an_unreadable_image_is_refused_with_its_path_and_with_what_to_do(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("b/1.jpg",))
    with pytest.raises(UserError, match=r"b/1\.jpg cannot be read.*dataset\.on_unreadable=skip$"):
        readable_split(split, "zero_shot", "refuse", tmp_path / "data")


def test_the_error_names_the_first_unreadable_image_and_counts_all(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("b/1.jpg", "c/0.jpg", "d/0.jpg"))
    with pytest.raises(
        UserError, match=r"b/1\.jpg cannot be read.*\(unreadable images in total: 3; (.*) lists all\)$"
    ) as error:
        readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    [listing] = (tmp_path / "data" / "checked").iterdir()
    assert str(listing) in str(error.value)
    assert [line.split("\t")[0] for line in listing.read_text().splitlines()] == ["b/1.jpg", "c/0.jpg", "d/0.jpg"]


def test_unreadable_images_are_skipped_and_counted_on_request(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("b/1.jpg", "d/0.jpg"))
    kept = readable_split(split, "zero_shot", "skip", tmp_path / "data")
    assert set(split.frame["path"]) - set(kept.frame["path"]) == {"b/1.jpg", "d/0.jpg"}
    assert kept.n_skipped == 2
    assert any(note.startswith("unreadable images that are skipped: 2 (b/1.jpg, d/0.jpg; ") for note in kept.notes)
    assert kept.digest != split.digest
    assert not check_images(kept).errors


def test_ten_skipped_images_are_named_and_a_file_lists_all(tmp_path: Path) -> None:
    names = [f"{name}/{number}.jpg" for name in "abcd" for number in range(3)]
    make_split(tmp_path / "root")
    for name in names[:11]:
        (tmp_path / "root" / name).with_suffix(".png").write_bytes(b"no image")
    note = readable_split(folder(str(tmp_path / "root")), "zero_shot", "skip", tmp_path / "data").notes[-1]
    assert note.startswith("unreadable images that are skipped: 11 (a/0.png, a/1.png, ")
    assert note.count(".png") == 10
    assert "and 1 more; " in note
    [listing] = (tmp_path / "data" / "checked").iterdir()
    assert f"{listing} lists all" in note
    assert len(listing.read_text().splitlines()) == 11


def test_a_link_that_leads_nowhere_and_a_fifo_are_unreadable_images(tmp_path: Path) -> None:
    make_split(tmp_path / "root")
    (tmp_path / "root/a/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(tmp_path / "root/b/fifo.jpg")
    split = folder(str(tmp_path / "root"))
    with pytest.raises(UserError, match=r"a/gone\.jpg cannot be read as an image: no such file"):
        readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    assert readable_split(split, "zero_shot", "skip", tmp_path / "data").n_skipped == 2


def test_the_same_contents_are_decoded_once_also_in_another_directory(tmp_path: Path, decoded: list[Path]) -> None:
    split = make_split(tmp_path / "root")
    for _ in range(2):
        assert readable_split(split, "zero_shot", "refuse", tmp_path / "data").n_duplicates == 0
    (tmp_path / "root").rename(tmp_path / "moved")
    readable_split(folder(str(tmp_path / "moved")), "zero_shot", "refuse", tmp_path / "data")
    assert len(decoded) == 12


def test_an_image_that_is_overwritten_by_as_many_bytes_is_decoded_again(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root")
    readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    path = tmp_path / "root/c/1.jpg"
    path.write_bytes(bytes(path.stat().st_size))
    for origin in ("own", "published"):
        with pytest.raises(UserError, match=r"c/1\.jpg cannot be read"):
            readable_split(replace(split, origin=origin), "zero_shot", "refuse", tmp_path / "data")
        assert readable_split(replace(split, origin=origin), "zero_shot", "skip", tmp_path / "data").n_skipped == 1


@pytest.mark.parametrize("text", ["", "{", '{"duplicates": [1]}', "[]"])
def test_a_damaged_verdict_is_not_believed(tmp_path: Path, decoded: list[Path], text: str) -> None:
    split = make_split(tmp_path / "root")
    readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    [verdict] = (tmp_path / "data" / "checked").iterdir()
    verdict.write_text(text)
    readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    assert len(decoded) == 24


def test_a_split_with_another_digest_is_checked_again(tmp_path: Path, decoded: list[Path]) -> None:
    split = make_split(tmp_path / "root")
    readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    broken = make_split(tmp_path / "root", broken=("a/0.jpg",))
    with pytest.raises(UserError, match=r"a/0\.jpg"):
        readable_split(broken, "zero_shot", "refuse", tmp_path / "data")
    assert len(decoded) == 24


def test_a_failed_check_is_repeated(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("a/0.jpg",))
    for _ in range(2):
        with pytest.raises(UserError, match=r"a/0\.jpg"):
            readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    assert readable_split(split, "zero_shot", "skip", tmp_path / "data").n_skipped == 1


def test_duplicates_are_grouped_and_images_of_equal_size_alone_are_not_duplicates(tmp_path: Path) -> None:
    make_split(tmp_path)
    (tmp_path / "c/9.jpg").write_bytes((tmp_path / "a/1.jpg").read_bytes())
    (tmp_path / "b/9.jpg").write_bytes(bytes(len((tmp_path / "a/1.jpg").read_bytes())))
    split = hash_contents(folder(str(tmp_path)), tmp_path / "data").split
    groups = [[split.frame["path"][image_id] for image_id in ids] for ids in find_duplicates(split)]
    assert groups == [["a/1.jpg", "c/9.jpg"]]


def test_the_report_counts_duplicates_across_classes_and_across_training_and_test(tmp_path: Path) -> None:
    make_split(tmp_path)
    (tmp_path / "a/9.jpg").write_bytes((tmp_path / "a/1.jpg").read_bytes())  # within a class
    (tmp_path / "b/9.jpg").write_bytes((tmp_path / "a/2.jpg").read_bytes())  # across classes, both in training
    (tmp_path / "c/9.jpg").write_bytes((tmp_path / "b/0.jpg").read_bytes())  # across training and test
    assert (
        "duplicates 6 byte-identical images, such as a/1.jpg = a/9.jpg; groups of them: 3; groups across classes: 2; "
        "groups across training and test: 1"
    ) in list(report("Photos", hashed_folder(tmp_path)))


def test_the_report_counts_images_and_classes_of_each_role(tmp_path: Path) -> None:
    make_split(tmp_path)
    (tmp_path / "c/2.jpg").unlink()
    lines = list(report("Photos", hashed_folder(tmp_path)))
    assert lines[0].startswith("Photos: 11 images, split digest ")
    assert "train      6 images of 2 classes (3 per class)" in lines
    assert "query      5 images of 2 classes (2 to 3, median 2.5, per class)" in lines
    assert "duplicates no two images are byte-identical" in lines
    assert not any(line.startswith(("val", "positives")) for line in lines)


def test_the_report_counts_queries_without_positives(tmp_path: Path) -> None:
    make_split(tmp_path)
    for number in (1, 2):
        (tmp_path / f"d/{number}.jpg").unlink()
    [line] = [line for line in report("Photos", hashed_folder(tmp_path)) if line.startswith("positives")]
    assert line.startswith("positives  queries without a positive (another image of their class in the gallery)")
    assert line.endswith(": 1")


def test_the_report_counts_skipped_images(tmp_path: Path) -> None:
    split = readable_split(make_split(tmp_path / "root", broken=("d/0.jpg",)), "zero_shot", "skip", tmp_path / "data")
    assert any(line.startswith("note       unreadable images that are skipped: 1 (d/0.jpg") for line in report("Photos", split))


# ---- training and test that are not apart


def test_a_test_image_that_equals_a_training_image_is_counted_also_with_another_format_size_or_compression(
    tmp_path: Path,
) -> None:
    make_split(tmp_path / "root")
    colours = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((200, 160), Image.Resampling.BICUBIC).save(tmp_path / "root/a/0.jpg")
    split = folder(str(tmp_path / "root"))
    assert readable_split(split, "zero_shot", "refuse", tmp_path / "data").n_duplicates == 0
    with Image.open(tmp_path / "root/a/0.jpg") as image:
        image.resize((320, 320), Image.Resampling.BICUBIC).save(tmp_path / "root/c/larger.jpg", quality=70)
        image.save(tmp_path / "root/d/same.png")
        image.save(tmp_path / "root/b/of_training.png")
    (tmp_path / "root/d/bytes.jpg").write_bytes((tmp_path / "root/a/1.jpg").read_bytes())
    split = readable_split(folder(str(tmp_path / "root")), "zero_shot", "refuse", tmp_path / "data")
    assert split.columns["n_duplicates_across_split"] == 3
    note = "test images that equal a training image, or nearly: 3, such as c/larger.jpg and a/0.jpg"
    assert note in split.notes
    again = readable_split(folder(str(tmp_path / "root")), "zero_shot", "refuse", tmp_path / "data")
    assert (again.n_duplicates, again.notes) == (3, split.notes)  # as remembered


def test_a_training_image_in_the_gallery_is_no_duplicate_of_itself(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root")
    frame = split.frame.assign(gallery=True)
    assert readable_split(replace(split, frame=frame), None, "refuse", tmp_path / "data").n_duplicates == 0


def test_classes_with_training_and_test_images_are_counted_and_noted_unless_the_rule_says_so(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root")
    frame = split.frame.assign(train=split.frame["train"] | (split.frame["path"] == "d/0.jpg"))
    frame.loc[frame["path"] == "d/0.jpg", ["query", "gallery"]] = False
    noted = readable_split(replace(split, frame=frame), "manifest", "refuse", tmp_path / "data")
    assert noted.columns["n_shared_classes"] == 1
    assert "1 of 2 test classes are training classes too, such as 'd': they are not unseen" in noted.notes
    closed = folder(str(tmp_path / "root"), split="half_per_class")
    asked_for = readable_split(closed, "half_per_class", "refuse", tmp_path / "data")
    assert asked_for.columns["n_shared_classes"] == 4
    assert asked_for.notes == closed.notes  # which says it once
    assert "no test class is unseen" in asked_for.notes[0]


def test_a_box_that_is_outside_its_image_or_too_small_is_an_error_of_the_image(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root")
    boxes = {"x": 0.0, "y": 0.0, "width": 32.0, "height": 32.0}
    frame = split.frame.assign(**boxes)
    frame.loc[2, "x"] = 32.0
    frame.loc[3, "height"] = 0.8
    errors = check_images(replace(split, frame=frame)).errors
    assert list(errors) == [2, 3]
    assert errors[2].endswith("a/2.jpg: its box (32, 0, 32, 32) is outside the image of 32 x 32 pixels")
    assert errors[3].endswith("b/0.jpg: its box (0, 0, 32, 0.8) has a side below one pixel")


# ---- data check


def data_check(split: Split, data_dir: Path, on_unreadable: str = "refuse") -> list[str]:
    """The lines of `dmlbench data check`, and the sentence with which it ends, if it does."""
    dataset = Dataset((1,), {}, name="photos", label="Photos", on_unreadable=on_unreadable)  # type: ignore[arg-type]
    lines = []
    try:
        for line in check_data(dataset, split, data_dir):
            lines.append(line)
    except UserError as error:
        lines.append(f"refused: {error}")
    return lines


def test_data_check_reads_the_images_also_if_their_check_is_remembered(tmp_path: Path, decoded: list[Path]) -> None:
    split = make_split(tmp_path / "root")
    readable_split(split, "zero_shot", "refuse", tmp_path / "data")
    data_check(split, tmp_path / "data")
    assert len(decoded) == 24


def test_data_check_names_ten_unreadable_images_after_the_duplicates(tmp_path: Path) -> None:
    names = [f"{name}/{number}.jpg" for name in "abcd" for number in range(3)]
    make_split(tmp_path / "root")
    for name in names[:11]:
        (tmp_path / "root" / name).with_suffix(".png").write_bytes(b"no image")
    lines = data_check(folder(str(tmp_path / "root")), tmp_path / "data")
    [start] = [index for index, line in enumerate(lines) if line == "unreadable 11 images; the first 10:"]
    assert sum(line.startswith("duplicates 11 byte-identical images") for line in lines[:start]) == 1
    assert sum(line.startswith("  ") for line in lines[start:]) == 10
    assert lines[-1].startswith("refused: ")
    skipped = data_check(folder(str(tmp_path / "root")), tmp_path / "data", "skip")
    assert "skipped    11 images; the first 10:" in skipped
    assert skipped[0].startswith("Photos: 12 images")
    assert not skipped[-1].startswith("refused")


def test_data_check_hashes_every_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "file_status", lambda path: (1, 2, 3, 4))  # as of bytes that changed on a failing disk
    split = make_split(tmp_path / "root")
    assert not any(line.startswith("changed") for line in data_check(split, tmp_path / "data"))
    path = tmp_path / "root/a/1.jpg"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    [line] = [line for line in data_check(split, tmp_path / "data") if line.startswith("changed")]
    assert line == "changed    contents that changed although size and times of the file did not: 1 (a/1.jpg)"
    assert not any(line.startswith("changed") for line in data_check(split, tmp_path / "data"))


def test_data_check_counts_attributes_and_names_those_that_never_occur(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root")  # images 0 to 5 are training images
    values = np.zeros((12, 14), dtype=np.float32)
    values[6:, 0] = 1  # only in test images
    values[:, 1] = np.nan
    values[3], values[3:5, 1] = np.nan, np.nan
    values[0, 2] = 1
    split = replace(split, attributes=Attributes(("tested", "unknown", *(f"part {k}" for k in range(12))), values))
    lines = [line for line in data_check(split, tmp_path / "data") if line.startswith("attributes")]
    names = ", ".join(["unknown", *(f"part {k}" for k in range(1, 10))])
    assert lines == [
        "attributes 14 attributes; 4.9 % of the known values are 1, 0.0 to 54.5 % per attribute; missing values: 25 (14.9 %)",
        "attributes images without any known value: 1",
        f"attributes that no image has: 12 ({names}, and 2 more)",
        "attributes that no training image has: 1 (tested)",
    ]
    plain = data_check(replace(split, attributes=None), tmp_path / "data")
    assert not any(line.startswith("attributes") for line in plain)
