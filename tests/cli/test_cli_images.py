"""Directories of images as users have them: formats, broken files, small classes, labels in a table."""

from __future__ import annotations

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
