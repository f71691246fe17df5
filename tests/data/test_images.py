"""Images of every colour mode are read as RGB, and broken files are refused in one sentence."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import GifImagePlugin, Image, ImageOps, JpegImagePlugin

from dmlbench.data.images import open_image, read_image
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


@pytest.mark.parametrize("upright", [False, True])
def test_damaged_metadata_are_ignored_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, upright: bool
) -> None:
    for name in ("image.jpg", "image.tif", "image.png", "image.webp"):
        path = tmp_path / name
        Image.fromarray(RGB).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x02\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\0\0")
        recwarn.clear()  # of saving
        assert read_image(path, upright=upright).shape == (3, 6, 5)
        assert [str(one.message) for one in recwarn] == []


def test_a_large_image_within_the_limit_is_opened_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with open_image(saved(tmp_path, Image.new("1", (10_000, 9_000)))) as image:
        assert image.size == (10_000, 9_000)
    assert [str(one.message) for one in recwarn] == []


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


# ---- images of somebody else


def test_an_eps_file_that_is_named_jpg_does_not_start_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin" / "gs"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    path = tmp_path / "image.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UserError, match=r"its content is not an image of a known format \(JPEG, PNG, .*\)"):
        read_image(path)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", ["image.jpg", "image.png", "image.bmp", "image.gif", "image.webp", "image.tif", "image.jp2"])
def test_every_format_that_is_listed_in_a_directory_can_be_read(tmp_path: Path, name: str) -> None:
    assert read_image(saved(tmp_path, Image.fromarray(RGB), name)).shape == (3, 6, 5)


def test_a_fifo_or_a_device_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("image.jpg", "zero.jpg"):
        with pytest.raises(UserError, match=r"cannot be read as an image: it is not a regular file;"):
            read_image(tmp_path / name)


def test_a_link_to_an_image_is_read_and_one_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RGB))
    (tmp_path / "link.png").symlink_to(path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert torch.equal(read_image(tmp_path / "link.png"), read_image(path))
    for name in ("gone.png", "loop.png"):
        with pytest.raises(UserError, match=r"cannot be read as an image: (no such file|it is a link)"):
            read_image(tmp_path / name)


def test_a_file_beyond_the_limit_is_refused_without_being_read(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RGB), "image.webp")
    os.truncate(path, 2**40)  # a sparse file, which takes no space
    with pytest.raises(UserError, match=r"it has 1,099,511,627,776 bytes; at most 2,147,483,648 are read"):
        read_image(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG file of a given size with almost no data."""
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "PNG")
    content = bytearray(out.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("limit_of_pillow", [1, None])
def test_an_image_with_too_many_pixels_is_refused_whatever_the_limit_of_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_of_pillow: int | None
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit_of_pillow)
    path = tmp_path / "image.png"
    path.write_bytes(png_header(60_000, 60_000))
    with pytest.raises(UserError, match=r"60000 x 60000 pixels; at most 178,956,970 are decoded|3600000000 pixels"):
        read_image(path)


def test_a_strip_that_would_be_resized_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (40_001, 40)))
    with pytest.raises(UserError, match=r"it has 40001 x 40 pixels; one side is more than 1,000 times the other"):
        read_image(path)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OverflowError("x"), RecursionError("x"), KeyError("x"), NotImplementedError("x"), TypeError("x\ny")],
)
@pytest.mark.parametrize("plugin", [JpegImagePlugin.JpegImageFile, GifImagePlugin.GifImageFile])
def test_any_exception_of_a_decoder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, plugin: type
) -> None:
    def fail(self: object) -> None:
        raise error

    path = saved(tmp_path, Image.fromarray(RGB), "a.jpg" if plugin is JpegImagePlugin.JpegImageFile else "a.gif")
    monkeypatch.setattr(plugin, "load", fail)
    with pytest.raises(UserError, match=r"^[^\n]* cannot be read as an image: [^\n]+$"):
        read_image(path)


# ---- orientation


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_an_image_is_turned_as_its_exif_orientation_says_only_on_request(tmp_path: Path, orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / name
    Image.fromarray(RGB).save(path, exif=exif, **({} if name == "a.jpg" else {"lossless": True}))
    with Image.open(path) as image:
        stored, upright = np.array(image.convert("RGB")), np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(pixels(path), stored)
    assert np.array_equal(read_image(path, upright=True).permute(1, 2, 0).numpy(), upright)


def test_a_box_refers_to_the_stored_pixels_also_if_the_image_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    turned = read_image(tmp_path / "a.png", np.array([1.0, 2.0, 3.0, 4.0]), upright=True)
    assert np.array_equal(turned.permute(1, 2, 0).numpy(), np.rot90(RGB[2:6, 1:4], -1))


def test_damaged_metadata_does_not_make_an_image_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert torch.equal(read_image(path, upright=True), read_image(path))
