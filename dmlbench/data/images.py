"""One image file, decoded to RGB whatever its mode."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from dmlbench.errors import UserError

# What counts as an image where a folder is listed; a manifest may name any file that Pillow reads.
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"))

# What Pillow's decoders raise on broken files, beside OSError.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(path: Path) -> torch.Tensor:
    """Decode an image file to RGB.

    Grey, palette, 1-bit, 16-bit and CMYK images are converted and an alpha channel is dropped. An EXIF orientation is
    not applied: the published numbers of the field come from loaders that ignore it, and boxes are in stored pixels.

    Args:
        path: of a file that Pillow can read.

    Returns:
        uint8 `(3, H, W)` in [0, 255]; the channels of a pixel lie together in memory, which resizing likes.

    Raises:
        UserError: the file is missing, truncated, no image, or of a mode without a known range.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(_rgb(image))
    except BROKEN as error:
        raise UserError(
            f"{path} cannot be read as an image: {_reason(error)}; mend or remove it,"
            " or leave such images out and count them with dataset.on_unreadable=skip"
        ) from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def size_bytes(path: Path) -> int | None:
    """The size of a file; None where there is none that can be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _eight_bit(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow would warn of the transparency that is lost
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8: Pillow's own conversion clips everything above 255 to white."""
    values = np.array(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its integer pixels exceed 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "its content is no image of a known format"
    # an OSError's text repeats the path that the sentence already names
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.rstrip(".")
