"""Images of every colour mode are read as RGB, and broken files are refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmlbench.data.images import read_image
from dmlbench.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def saved(tmp_path: Path, image: Image.Image, name: str = "image.png") -> Path:
    image.save(tmp_path / name)
    return tmp_path / name


def pixels(path: Path) -> np.ndarray:
    """uint8 `(H, W, 3)`."""
    return read_image(path).permute(1, 2, 0).numpy()


def test_an_image_is_a_uint8_tensor_of_channels_height_and_width(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path, Image.fromarray(RGB)))
    assert image.dtype == torch.uint8
    assert image.shape == (3, 6, 5)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), RGB)


def test_grey_is_repeated_in_all_three_channels(tmp_path: Path) -> None:
    assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(GREY))), np.repeat(GREY[..., None], 3, 2))


def test_an_alpha_channel_is_dropped(tmp_path: Path) -> None:
    alpha = np.concatenate([RGB, np.full((6, 5, 1), 17, np.uint8)], 2)
    assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(alpha))), RGB)


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = GREY > 127
    assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(bits))), np.repeat(bits[..., None] * np.uint8(255), 3, 2))


def test_16_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    assert np.array_equal(pixels(saved(tmp_path, Image.fromarray(deep))), np.repeat(GREY[..., None], 3, 2))


def test_a_palette_image_with_transparency_gives_its_colours_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    flat = np.zeros((6, 5, 3), np.uint8) + np.array([200, 30, 60], np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(flat).quantize(4).save(path, transparency=0)
    assert np.array_equal(pixels(path), flat)
    assert not recwarn.list


def test_cmyk_is_converted(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("CMYK", (5, 6), (0, 0, 0, 255)), "image.tif")
    assert np.array_equal(pixels(path), np.zeros((6, 5, 3)))


def test_a_truncated_jpeg_is_refused_by_name_with_what_to_do(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), "cut.jpg")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"cut\.jpg cannot be read as an image: .*dataset\.on_unreadable=skip"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "not.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match="its content is not an image of a known format"):
        read_image(path)


def test_floating_point_and_32_bit_pixels_are_refused_because_their_range_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="floating-point pixels have no defined value range; save it with 8 or 16 bits"):
        read_image(saved(tmp_path, Image.new("F", (5, 6), 0.5), "image.tif"))
    with pytest.raises(UserError, match="its integer pixels exceed 16 bits"):
        read_image(saved(tmp_path, Image.new("I", (5, 6), 70_000), "image.tif"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "gone.png")
