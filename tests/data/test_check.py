"""Unreadable images are refused or left out and counted; copies and lonely queries are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlbench.data import check
from dmlbench.data.check import duplicates, report, unreadable, without_unreadable
from dmlbench.data.datasets.image_folder import folder
from dmlbench.data.split import Split
from dmlbench.errors import UserError


def tree(root: Path, *, broken: tuple[str, ...] = ()) -> Split:
    """Four classes of three different images; those named are cut short."""
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
    """The paths that the check decodes, as it does."""
    paths: list[Path] = []
    read = check.read_image
    monkeypatch.setattr(check, "read_image", lambda path: (paths.append(path), read(path))[1])
    return paths


def test_unreadable_images_are_found_by_id_with_the_reason(tmp_path: Path) -> None:
    split = tree(tmp_path, broken=("b/1.jpg", "d/0.jpg"))
    reasons = unreadable(split)
    assert [split.frame["path"][image_id] for image_id in reasons] == ["b/1.jpg", "d/0.jpg"]
    assert all("truncated" in reason for reason in reasons.values())


def test_an_unreadable_image_is_refused_by_its_name_with_what_would_work(tmp_path: Path) -> None:
    split = tree(tmp_path / "root", broken=("b/1.jpg",))
    with pytest.raises(UserError, match=r"b/1\.jpg cannot be read.*dataset\.on_unreadable=skip$"):
        without_unreadable(split, "refuse", tmp_path / "stamps")


def test_of_several_unreadable_images_the_first_is_named_and_the_others_counted(tmp_path: Path) -> None:
    split = tree(tmp_path / "root", broken=("b/1.jpg", "c/0.jpg", "d/0.jpg"))
    with pytest.raises(UserError, match=r"b/1\.jpg cannot be read.*\(2 more like it\)"):
        without_unreadable(split, "refuse", tmp_path / "stamps")


def test_unreadable_images_are_left_out_and_counted_on_request(tmp_path: Path) -> None:
    split = tree(tmp_path / "root", broken=("b/1.jpg", "d/0.jpg"))
    kept = without_unreadable(split, "skip", tmp_path / "stamps")
    assert set(split.frame["path"]) - set(kept.frame["path"]) == {"b/1.jpg", "d/0.jpg"}
    assert kept.n_skipped == 2
    assert any("2 images" in note for note in kept.notes)
    assert kept.digest != split.digest
    assert not unreadable(kept)


def test_images_are_decoded_once_for_one_digest(tmp_path: Path, decoded: list[Path]) -> None:
    split = tree(tmp_path / "root")
    for _ in range(2):
        assert without_unreadable(split, "refuse", tmp_path / "stamps") is split
    assert len(decoded) == 12


def test_another_digest_is_checked_anew(tmp_path: Path, decoded: list[Path]) -> None:
    split = tree(tmp_path / "root")
    without_unreadable(split, "refuse", tmp_path / "stamps")
    broken = tree(tmp_path / "root", broken=("a/0.jpg",))
    with pytest.raises(UserError, match=r"a/0\.jpg"):
        without_unreadable(broken, "refuse", tmp_path / "stamps")
    assert len(decoded) == 24


def test_a_refusal_is_never_remembered_as_a_pass(tmp_path: Path) -> None:
    split = tree(tmp_path / "root", broken=("a/0.jpg",))
    for _ in range(2):
        with pytest.raises(UserError, match=r"a/0\.jpg"):
            without_unreadable(split, "refuse", tmp_path / "stamps")
    assert without_unreadable(split, "skip", tmp_path / "stamps").n_skipped == 1


def test_copies_are_grouped_and_images_of_equal_size_alone_are_no_copies(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "c/9.jpg").write_bytes((tmp_path / "a/1.jpg").read_bytes())
    (tmp_path / "b/9.jpg").write_bytes(bytes(len((tmp_path / "a/1.jpg").read_bytes())))
    split = folder(str(tmp_path))
    groups = [[split.frame["path"][image_id] for image_id in ids] for ids in duplicates(split)]
    assert groups == [["a/1.jpg", "c/9.jpg"]]


def test_the_report_counts_copies_across_classes_and_across_training_and_test(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "a/9.jpg").write_bytes((tmp_path / "a/1.jpg").read_bytes())  # within a class
    (tmp_path / "b/9.jpg").write_bytes((tmp_path / "a/2.jpg").read_bytes())  # across classes, both in training
    (tmp_path / "c/9.jpg").write_bytes((tmp_path / "b/0.jpg").read_bytes())  # across training and test
    lines = "\n".join(report("Photos", folder(str(tmp_path))))
    assert "6 images in 3 groups are byte-identical, 2 across classes and 1 across training and test" in lines
    assert "such as a/1.jpg = a/9.jpg" in lines


def test_the_report_says_images_and_classes_of_each_role(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "c/2.jpg").unlink()
    lines = list(report("Photos", folder(str(tmp_path))))
    assert lines[0].startswith("Photos: 11 images, split digest ")
    assert "train     6 images of 2 classes (3 to 3 a class, median 3)" in lines
    assert "query     5 images of 2 classes (2 to 3 a class, median 2.5)" in lines
    assert "copies    no two images are byte-identical" in lines
    assert not any(line.startswith(("val", "single", "skipped")) for line in lines)


def test_the_report_counts_queries_without_a_match(tmp_path: Path) -> None:
    tree(tmp_path)
    for number in (1, 2):
        (tmp_path / f"d/{number}.jpg").unlink()
    assert any(line.startswith("single    1 queries have no other") for line in report("Photos", folder(str(tmp_path))))


def test_the_report_says_how_many_images_were_skipped(tmp_path: Path) -> None:
    split = without_unreadable(tree(tmp_path / "root", broken=("d/0.jpg",)), "skip", tmp_path / "stamps")
    assert "skipped   1 images that cannot be read" in list(report("Photos", split))
