"""Small copies of images: what the model saw, and placeholders for what cannot be shown."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rows_factory import make_row
from torchvision.transforms import v2

from dmlbench.data.images import read_image
from dmlbench.pictures.thumbnails import View, model_view, thumbnail
from dmlbench.results.run_images import RunImages

WHOLE = View()


@pytest.fixture
def images(tmp_path: Path) -> RunImages:
    """A photo of 90 x 60 pixels, a link to it, and files that cannot be shown."""
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    (tmp_path / "link.png").symlink_to("photo.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "directory.png").mkdir()
    names = ["photo.png", "link.png", "text.png", "directory.png", "missing.png"]
    return RunImages(tmp_path, range(5), names, boxes=[[30, 10, 20, 40]] * 5)


def test_a_whole_image_keeps_its_pixels_and_a_large_one_is_reduced(images: RunImages) -> None:
    shown = thumbnail(images, 0, WHOLE)
    assert shown.pixels is not None
    assert np.array_equal(shown.pixels, np.asarray(Image.open(images.root / "photo.png")))
    assert (shown.problem, shown.path) == ("", "photo.png")
    reduced = thumbnail(images, 1, WHOLE, px=30)
    assert reduced.pixels is not None
    assert reduced.pixels.shape == (20, 30, 3)


def test_the_view_of_the_model_is_the_part_that_the_loader_crops(images: RunImages) -> None:
    row = make_row(protocol_image_px=32, protocol_resize_px=40, protocol_crop_to_box=False, protocol_exif_orientation="ignored")
    # A coloured mark just inside or outside of the crop is seen, or not, by both.
    for offset, seen in ((8, True), (2, False)):
        pixels = np.zeros((60, 90, 3), np.uint8)
        pixels[offset - 2 : offset + 2, 40:50] = 255
        Image.fromarray(pixels).save(images.root / "photo.png")
        loaded = v2.CenterCrop(32)(v2.Resize(40, antialias=True)(read_image(images.root / "photo.png")))
        shown = thumbnail(images, 0, model_view(row)).pixels
        assert shown is not None
        assert shown.shape == (48, 48, 3)
        assert (bool(loaded.max() > 128), bool(shown.max() > 128)) == (seen, seen)


def test_the_view_of_the_model_follows_the_protocol_of_the_row(images: RunImages) -> None:
    row = make_row(protocol_image_px=64, protocol_resize_px=64, protocol_crop_to_box=True, protocol_exif_orientation="applied")
    view = model_view(row)
    assert view == View(share=1.0, boxed=True, upright=True)
    shown = thumbnail(images, 0, view).pixels
    expected = np.asarray(Image.open(images.root / "photo.png"))[20:40, 30:50]
    assert shown is not None
    assert np.array_equal(shown, expected)
    assert "box" in view.sentence
    assert model_view(make_row(protocol_image_px="x")).share == 1.0


def test_an_image_is_turned_if_the_run_turned_it(images: RunImages) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 60)).save(images.root / "photo.png", exif=exif)
    sizes = [thumbnail(images, 0, View(upright=upright)).pixels.shape[:2] for upright in (False, True)]  # type: ignore[union-attr]
    assert sizes == [(60, 90), (90, 60)]


@pytest.mark.parametrize(("image_id", "problem"), [(2, "unreadable"), (3, "unreadable"), (4, "missing"), (9, "not found")])
def test_an_image_that_cannot_be_shown_has_a_problem_instead_of_pixels(images: RunImages, image_id: int, problem: str) -> None:
    shown = thumbnail(images, image_id, WHOLE)
    assert shown.pixels is None
    assert shown.problem == problem


def test_a_run_whose_images_are_not_known_has_placeholders() -> None:
    assert thumbnail(None, 0, WHOLE).problem == "not found"


def test_an_image_that_is_not_the_one_that_the_run_read_is_not_shown(images: RunImages) -> None:
    recorded = hashlib.sha256((images.root / "photo.png").read_bytes()).hexdigest()
    hashed = RunImages(images.root, images.ids, images.paths, [recorded, recorded, "", "", ""])
    assert thumbnail(hashed, 1, WHOLE).pixels is not None
    Image.new("RGB", (90, 60)).save(images.root / "photo.png")
    assert thumbnail(hashed, 0, WHOLE).problem == "changed"
    assert thumbnail(images, 0, WHOLE).problem == ""  # without a recorded hash


def test_a_picture_that_would_unpack_to_too_many_pixels_is_unreadable(images: RunImages) -> None:
    header = b"P6 60000 60000 255\n"
    (images.root / "photo.png").write_bytes(header + bytes(100))
    assert thumbnail(images, 0, WHOLE).problem == "unreadable"


def test_reading_pixels_equals_reading_a_tensor(images: RunImages) -> None:
    from dmlbench.data.images import read_pixels

    tensor = read_image(images.root / "photo.png", np.array([3, 4, 20, 30]))
    assert torch.equal(
        tensor, torch.from_numpy(read_pixels(images.root / "photo.png", np.array([3, 4, 20, 30]))).permute(2, 0, 1)
    )
