"""Small copies of the images of a run, for pictures and pages. Imports no torch.

An image that is missing, unreadable or not the one that the run read gives a reason instead of pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dmlbench.data.images import open_file, read_pixels
from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages


@dataclass(frozen=True)
class View:
    """Which part of an image is shown.

    Args:
        share: Side of the centre crop that the model receives, relative to the shorter side; None for the whole image.
        boxed: Whether images are cropped to the box of their object first.
        upright: Whether images are turned as their EXIF orientation says.
    """

    share: float | None = None
    boxed: bool = False
    upright: bool = True

    @property
    def sentence(self) -> str:
        """What is shown."""
        if self.share is None:
            return "Images are whole; the model saw a part of them."
        return f"Images show what the model saw: the centre{' of the box of the object' if self.boxed else ''}."


def model_view(row: Row) -> View:
    """Return the part of each image that the model of a run received, as the row records it.

    Args:
        row: Row of the run.
    """
    image_px, resize_px = row.number("protocol_image_px"), row.number("protocol_resize_px")
    return View(
        share=min(1.0, image_px / resize_px) if image_px and resize_px and min(image_px, resize_px) > 0 else 1.0,
        boxed=row.get("protocol_crop_to_box") is True,
        upright=row.get("protocol_exif_orientation") == "applied",
    )


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A small copy of an image, or the reason why there is none.

    Args:
        pixels: uint8 `(H, W, 3)`; None if the image cannot be shown.
        problem: One or two words, such as `missing`; empty if there are pixels.
        path: Path of the file, relative to the directory of the images; None if it is not known.
    """

    pixels: np.ndarray | None
    problem: str = ""
    path: str | None = None


def thumbnail(images: RunImages | None, image_id: int, view: View, px: int = 192) -> Thumbnail:
    """Read an image of a run, and reduce it. Smaller images are not enlarged.

    Args:
        images: Files of the images; None if they are not known.
        image_id: Id of the image.
        view: Part to show.
        px: Largest side of the result, in pixels.
    """
    index = None if images is None else images.index.get(image_id)
    if images is None or index is None:
        return Thumbnail(None, "not found")
    path = images.paths[index]
    if problem := _problem(images.root / path, images.sha256[index] if images.sha256 else ""):
        return Thumbnail(None, problem, path)
    box = np.array(images.boxes[index]) if view.boxed and images.boxes else None
    try:
        pixels = read_pixels(images.root / path, box, view.upright)
    except UserError:
        return Thumbnail(None, "unreadable", path)
    return Thumbnail(_reduced(pixels if view.share is None else _centre(pixels, view.share), px), path=path)


def _problem(file: Path, sha256: str) -> str:
    """Say why a file is not the image that a run read; empty if it is, or if its hash is not known."""
    try:
        with open_file(file) as stream:
            now = hashlib.file_digest(stream, "sha256").hexdigest() if sha256 else ""  # type: ignore[arg-type]  # a FileIO
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError):
        return "unreadable"
    return "" if now == sha256 else "changed"


def _centre(pixels: np.ndarray, share: float) -> np.ndarray:
    """Crop to a square in the centre, whose side is a share of the shorter side."""
    height, width = pixels.shape[:2]
    side = max(1, round(share * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _reduced(pixels: np.ndarray, px: int) -> np.ndarray:
    if max(pixels.shape[:2]) <= px:
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(pixels)
    image.thumbnail((px, px), Image.Resampling.LANCZOS)
    return np.asarray(image)
