"""Read one image file of any colour mode as RGB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from dmlbench.errors import UserError

# Files with these suffixes count as images when a directory is listed. A manifest may name any file that Pillow reads.
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"))

# What Pillow's decoders raise on damaged files.
DECODING_ERRORS = (
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

    Grey, palette, 1-bit, 16-bit and CMYK images are converted, and an alpha channel is dropped. The EXIF orientation is
    ignored, as in the loaders behind published results; boxes refer to the stored pixels too.

    Args:
        path: A file that Pillow can read.

    Returns:
        uint8 `(3, H, W)` in [0, 255], channels last in memory, which makes resizing faster.

    Raises:
        UserError: The file is missing, truncated, not an image, or of a mode without a defined value range.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(_to_rgb(image))
    except DECODING_ERRORS as error:
        raise UserError(
            f"{path} cannot be read as an image: {_reason(error)}; repair or remove it,"
            " or skip unreadable images with dataset.on_unreadable=skip"
        ) from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def size_bytes(path: Path) -> int | None:
    """Return the size of a file in bytes, or None if the file is missing or inaccessible.

    Args:
        path: The file.
    """
    try:
        return path.stat().st_size
    except OSError:
        return None


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
        return "its content is not an image of a known format"
    # The text of an OSError repeats the path that the message already contains.
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.rstrip(".")
