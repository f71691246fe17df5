"""Directories of images as users have them: formats, broken files, small classes, labels in a table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Photos, on_photos, refused, rows_below
from PIL import Image

from dmlbench.cli import run


def test_grey_transparent_16_bit_and_palette_images_are_converted(photos: Photos) -> None:
    root = photos()
    for path, mode in zip(sorted(root.rglob("*.png")), ["L", "RGBA", "I;16", "1", "P"] * 8, strict=True):
        image = Image.open(path)
        if mode == "I;16":
            converted = Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)
        else:
            converted = image.convert(mode)
        converted.save(path)
    assert run(["train", "loss=contrastive", *on_photos(root)]) == 0
    assert rows_below("runs")[0]["status"] == "ok"


def truncated_image(root: Path) -> Path:
    path = root / "class01" / "broken.jpg"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:600])
    return path


def test_a_truncated_image_is_refused_with_its_name_or_skipped_on_request(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photos()
    truncated_image(root)
    sentence = refused(capsys, "train", "loss=contrastive", *on_photos(root))
    assert "broken.jpg" in sentence
    assert "dataset.on_unreadable=skip" in sentence
    assert run(["train", "loss=contrastive", *on_photos(root, "dataset.on_unreadable=skip")]) == 0
    [row] = rows_below("runs")
    assert (row["n_images_skipped"], row["n_train_images"]) == (1, 20)


def test_ten_skipped_images_are_named_and_a_file_lists_all(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    for k in range(12):
        (root / "class01" / f"broken{k:02}.jpg").write_bytes(b"no image")
    (root / "class01" / "gone.jpg").symlink_to("nowhere.jpg")
    assert run(["train", "loss=contrastive", *on_photos(root, "dataset.on_unreadable=skip")]) == 0
    [note] = [line for line in capsys.readouterr().out.splitlines() if "unreadable images that are skipped: 13" in line]
    assert note.count(".jpg") == 10
    assert "and 3 more; " in note
    [listing] = Path("data/checked").glob("*.txt")
    assert str(listing) in note
    assert len(listing.read_text().splitlines()) == 13
    assert rows_below("runs")[0]["n_images_skipped"] == 13


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_damaged_in_secret_after_the_check_is_one_sentence(
    photos: Photos, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    root = photos()
    overrides = on_photos(root, f"workers={workers}")
    assert run(["train", "loss=untrained", *overrides]) == 0
    path = root / "class01" / "1.png"
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    capsys.readouterr()
    assert run(["train", "loss=contrastive", *overrides]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dmlbench:")]
    assert "class01/1.png cannot be read as an image" in line


def test_images_whose_contents_are_exchanged_are_another_data_set(photos: Photos) -> None:
    root = photos()
    for path in sorted(root.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))  # all of one size
        path.unlink()
    overrides = ["train", "loss=contrastive", *on_photos(root)]
    assert run(overrides) == 0
    first, second = root / "class00" / "0.bmp", root / "class07" / "0.bmp"
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert run(overrides) == 0
    rows = rows_below("runs")
    assert len({row["fingerprint"] for row in rows}) == len({row["images_digest"] for row in rows}) == 2


def test_classes_and_images_in_training_and_test_are_noted_recorded_and_printed_below_tables(
    photos: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photos()
    shutil.copy(root / "class00/0.png", root / "class07/copy.png")
    lines = ["path,label,split"]
    for path in sorted(root.rglob("*.png")):
        train = path.parent.name < "class04" or path.name == "4.png"
        lines.append(f"{path.relative_to(root)},{path.parent.name},{'train' if train else 'test'}")
    (root / "list.csv").write_text("\n".join(lines))
    assert run(["train", "loss=contrastive", *on_photos(root, "dataset.manifest=list.csv", "dataset.split=manifest")]) == 0
    out = capsys.readouterr().out
    assert "note      4 of 4 test classes are training classes too, such as 'class04': they are not unseen" in out
    assert "note      test images that equal a training image, or nearly: 1, such as class07/copy.png and class00/0.png" in out
    [row] = rows_below("runs")
    assert (row["n_shared_classes"], row["n_duplicates_across_split"]) == (4, 1)
    assert run(["table"]) == 0
    table = " ".join(capsys.readouterr().out.split())
    assert "4 of 4 test classes are training classes too" in table
    assert "1 test images equal a training image, or nearly" in table


def test_images_of_the_user_are_turned_as_their_exif_orientation_says_and_the_row_says_so(photos: Photos) -> None:
    root = photos()
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
            image.save(path, exif=exif)
    for choice in ([], ["protocol.exif_orientation=ignored"], ["protocol.exif_orientation=applied", "dataset.cache=memmap"]):
        assert run(["train", "loss=untrained", *on_photos(root, *choice)]) == 0
    rows = {row["protocol_exif_orientation"]: row for row in rows_below("runs")}
    assert set(rows) == {"applied", "ignored"}
    assert rows["applied"]["fingerprint"] != rows["ignored"]["fingerprint"]
    assert rows["applied"]["effective_rank"] != rows["ignored"]["effective_rank"]


def test_an_empty_class_directory_is_refused_with_its_name(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    (root / "empty").mkdir()
    assert "empty" in refused(capsys, "train", *on_photos(root))


def test_a_dangling_link_is_refused_with_its_name(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    (root / "class00" / "gone.png").symlink_to(root / "nowhere.png")
    assert "gone.png" in refused(capsys, "train", "loss=contrastive", *on_photos(root))


def test_fewer_classes_than_a_batch_needs_are_refused(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = refused(capsys, "train", *on_photos(photos(), "protocol.batch_size=32"))
    assert "needs 8 classes, but the training split has 4" in sentence


def test_a_class_with_few_images_is_announced_and_its_images_repeat(photos: Photos, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos()
    for k in range(3):
        (root / "class00" / f"{k}.png").unlink()
    assert run(["train", "loss=contrastive", *on_photos(root)]) == 0
    assert "1 training class has fewer than 4 images" in capsys.readouterr().out


def test_labels_with_gaps_in_a_table_are_accepted_and_numbered_anew(photos: Photos) -> None:
    root = photos()
    lines = ["file,class_id"]
    lines += [f"{p.relative_to(root)},{int(p.parent.name[5:]) * 1000 + 7}" for p in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    assert run(["train", "loss=arcface", *on_photos(root, "dataset.manifest=labels.csv")]) == 0
    assert rows_below("runs")[0]["loss_make_num_classes"] == 4
