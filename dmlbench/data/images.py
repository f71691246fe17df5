"""Read one image file of any colour mode as RGB. Files may come from somebody else, so formats and sizes are bounded."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from dmlbench.errors import UserError
from dmlbench.system.regular_files import NotARegularFileError, open_regular

if TYPE_CHECKING:
    import torch

# Files with these suffixes count as images when a directory is listed. A manifest may name any file of `FORMATS`.
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"))
# The content decides the format, not the suffix. Pillow knows others, of which EPS would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000")
MAX_PIXELS = 178_956_970  # 512 MiB as RGB; Pillow's own limit, which other libraries may change
MAX_SIDES_RATIO = 1000  # resizing the shorter side of a longer strip would take gigabytes
MAX_FILE_BYTES = 2**31


def open_file(path: Path) -> BinaryIO:
    """Open a regular file of bounded size, or a link to one, unbuffered.

    Args:
        path: The file.

    Raises:
        OSError: It is missing, inaccessible, too large, or a FIFO, device or directory.
    """
    try:
        return open_regular(path, MAX_FILE_BYTES)
    except NotARegularFileError:
        if not path.is_symlink():
            raise
        return open_regular(os.path.realpath(path), MAX_FILE_BYTES)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file. Its pixels are decoded on demand, and every error of a decoder becomes a `UserError`.

    Warnings are suppressed: about damaged metadata, which do not change pixels, and about sizes below our limit.

    Args:
        path: A regular file, or a link to one, in one of `FORMATS`.

    Yields:
        The image, whose size is known and within the limits.

    Raises:
        UserError: The file is missing, truncated, too large, not an image, or of a mode without a defined value range.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            io.BufferedReader(open_file(path)) as file,  # type: ignore[type-var]  # an unbuffered file
            Image.open(file, formats=FORMATS) as image,
        ):
            _check_size(*image.size)
            yield image
    except Exception as error:  # decoders raise exceptions of any class on damaged files, MemoryError among them
        raise UserError(
            f"{path} cannot be read as an image: {_reason(error)}; repair or remove it,"
            " or skip unreadable images with dataset.on_unreadable=skip"
        ) from None


def read_image(path: Path, box: np.ndarray | None = None, upright: bool = False) -> torch.Tensor:
    """Decode an image file to RGB.

    Grey, palette, 1-bit, 16-bit and CMYK images are converted, and an alpha channel is dropped.

    Args:
        path: An image file; see `open_image`.
        box: float64 `(4,)`: x, y, width, height in the stored pixels, to which the image is cropped. None for all.
        upright: Turn the image as its EXIF orientation says, after cropping. Otherwise the stored pixels are returned, as in
            the loaders behind published results. (Pillow itself turns TIFF images.)

    Returns:
        uint8 `(3, H, W)` in [0, 255], channels last in memory, which makes resizing faster.

    Raises:
        UserError: The file cannot be read; see `open_image`.
    """
    import torch  # not at the top: commands that only show images start without it

    return torch.from_numpy(read_pixels(path, box, upright)).permute(2, 0, 1)


def read_pixels(path: Path, box: np.ndarray | None = None, upright: bool = False) -> np.ndarray:
    """Decode an image file to RGB, as `read_image` does.

    Args:
        path: An image file; see `open_image`.
        box: See `read_image`.
        upright: See `read_image`.

    Returns:
        uint8 `(H, W, 3)` in [0, 255].

    Raises:
        UserError: The file cannot be read; see `open_image`.
    """
    with open_image(path) as image:
        pixels = np.array(_to_rgb(image))
        orientation = _orientation(image) if upright else 1
    if box is not None:
        pixels = crop_to_box(pixels, box)
    return turn(pixels, orientation)


def crop_to_box(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Crop an image to a box, rounded to whole pixels and clipped to the image. The result has at least one pixel.

    Args:
        pixels: `(H, W, C)`.
        box: `(4,)`: x, y, width, height in pixels.
    """
    height, width = pixels.shape[:2]
    x, y, box_width, box_height = box
    left, top = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    right, bottom = min(max(round(x + box_width), left + 1), width), min(max(round(y + box_height), top + 1), height)
    return pixels[top:bottom, left:right]


def turn(pixels: np.ndarray, orientation: object) -> np.ndarray:
    """Turn stored pixels upright.

    Args:
        pixels: `(H, W, C)`.
        orientation: Value of the EXIF tag, 1 to 8. Any other value is ignored.

    Returns:
        `(H, W, C)` or `(W, H, C)`, contiguous if it was turned.
    """
    if orientation not in range(2, 9):
        return pixels
    if orientation in (5, 6, 7, 8):  # rows of the file are columns of the image
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def size_bytes(path: Path) -> int | None:
    """Return the size of a file in bytes, 0 for a link that leads nowhere, or None if the file is missing or inaccessible.

    Args:
        path: The file.
    """
    try:
        return path.stat().st_size
    except OSError:
        return 0 if path.is_symlink() else None
    except ValueError:  # no file has such a name
        return None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels; at most {MAX_PIXELS:,} are decoded")
    if max(width, height) > MAX_SIDES_RATIO * min(width, height):
        raise ValueError(f"it has {width} x {height} pixels; one side is more than {MAX_SIDES_RATIO:,} times the other")


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation of a decoded image; 1 (upright) if it has none, or if its metadata are damaged."""
    with suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _to_8_bits(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined value range; save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # a direct conversion to RGB would warn that the transparency is lost
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8. Pillow's own conversion clips all values above 255."""
    values = np.array(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its integer pixels exceed 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return f"its content is not an image of a known format ({', '.join(FORMATS)})"
    if isinstance(error, NotARegularFileError):
        return str(error.strerror)
    # The text of an OSError repeats the path that the message already contains.
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    line = text.strip().splitlines()[0].rstrip(".")
    return line if line.isprintable() else repr(line)
