"""Unreadable images are refused, or skipped and counted; duplicates and queries without positives are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlbench.data import check
from dmlbench.data.check import find_duplicates, find_unreadable, report, without_unreadable
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


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The paths that the check has decoded so far."""
    paths: list[Path] = []
    read = check.read_image
    monkeypatch.setattr(check, "read_image", lambda path: (paths.append(path), read(path))[1])
    return paths


def test_unreadable_images_are_found_with_id_and_reason(tmp_path: Path) -> None:
    split = make_split(tmp_path, broken=("b/1.jpg", "d/0.jpg"))
    errors = find_unreadable(split)
    assert [split.frame["path"][image_id] for image_id in errors] == ["b/1.jpg", "d/0.jpg"]
    assert all("truncated" in error for error in errors.values())


def test_an_unreadable_image_is_refused_with_its_path_and_with_what_to_do(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("b/1.jpg",))
    with pytest.raises(UserError, match=r"b/1\.jpg cannot be read.*dataset\.on_unreadable=skip$"):
        without_unreadable(split, "refuse", tmp_path / "stamps")


def test_the_error_names_the_first_unreadable_image_and_counts_all(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("b/1.jpg", "c/0.jpg", "d/0.jpg"))
    with pytest.raises(UserError, match=r"b/1\.jpg cannot be read.*\(unreadable images in total: 3\)"):
        without_unreadable(split, "refuse", tmp_path / "stamps")


def test_unreadable_images_are_skipped_and_counted_on_request(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("b/1.jpg", "d/0.jpg"))
    kept = without_unreadable(split, "skip", tmp_path / "stamps")
    assert set(split.frame["path"]) - set(kept.frame["path"]) == {"b/1.jpg", "d/0.jpg"}
    assert kept.n_skipped == 2
    assert "unreadable images that are skipped: 2" in kept.notes
    assert kept.digest != split.digest
    assert not find_unreadable(kept)


def test_the_images_of_one_digest_are_decoded_once(tmp_path: Path, decoded: list[Path]) -> None:
    split = make_split(tmp_path / "root")
    for _ in range(2):
        assert without_unreadable(split, "refuse", tmp_path / "stamps") is split
    assert len(decoded) == 12


def test_a_split_with_another_digest_is_checked_again(tmp_path: Path, decoded: list[Path]) -> None:
    split = make_split(tmp_path / "root")
    without_unreadable(split, "refuse", tmp_path / "stamps")
    broken = make_split(tmp_path / "root", broken=("a/0.jpg",))
    with pytest.raises(UserError, match=r"a/0\.jpg"):
        without_unreadable(broken, "refuse", tmp_path / "stamps")
    assert len(decoded) == 24


def test_a_failed_check_is_repeated(tmp_path: Path) -> None:
    split = make_split(tmp_path / "root", broken=("a/0.jpg",))
    for _ in range(2):
        with pytest.raises(UserError, match=r"a/0\.jpg"):
            without_unreadable(split, "refuse", tmp_path / "stamps")
    assert without_unreadable(split, "skip", tmp_path / "stamps").n_skipped == 1


def test_duplicates_are_grouped_and_images_of_equal_size_alone_are_not_duplicates(tmp_path: Path) -> None:
    make_split(tmp_path)
    (tmp_path / "c/9.jpg").write_bytes((tmp_path / "a/1.jpg").read_bytes())
    (tmp_path / "b/9.jpg").write_bytes(bytes(len((tmp_path / "a/1.jpg").read_bytes())))
    split = folder(str(tmp_path))
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
    ) in list(report("Photos", folder(str(tmp_path))))


def test_the_report_counts_images_and_classes_of_each_role(tmp_path: Path) -> None:
    make_split(tmp_path)
    (tmp_path / "c/2.jpg").unlink()
    lines = list(report("Photos", folder(str(tmp_path))))
    assert lines[0].startswith("Photos: 11 images, split digest ")
    assert "train      6 images of 2 classes (3 per class)" in lines
    assert "query      5 images of 2 classes (2 to 3, median 2.5, per class)" in lines
    assert "duplicates no two images are byte-identical" in lines
    assert not any(line.startswith(("val", "positives")) for line in lines)


def test_the_report_counts_queries_without_positives(tmp_path: Path) -> None:
    make_split(tmp_path)
    for number in (1, 2):
        (tmp_path / f"d/{number}.jpg").unlink()
    [line] = [line for line in report("Photos", folder(str(tmp_path))) if line.startswith("positives")]
    assert line.startswith("positives  queries without a positive (another image of their class in the gallery)")
    assert line.endswith(": 1")


def test_the_report_counts_skipped_images(tmp_path: Path) -> None:
    split = without_unreadable(make_split(tmp_path / "root", broken=("d/0.jpg",)), "skip", tmp_path / "stamps")
    assert "note       unreadable images that are skipped: 1" in list(report("Photos", split))
