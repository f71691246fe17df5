"""Small copies of images, each embedded once, within a size budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from PIL import Image

from dmlbench.pictures.thumbnails import Thumbnail, View, thumbnail
from dmlbench.report.svg import element
from dmlbench.results.run_images import RunImages

# Side in pixels and quality of WebP, from the best to the smallest. Photos of 96 px have about 3 kB, of 56 px 1 kB.
_LEVELS = ((128, 75), (96, 70), (72, 60), (56, 50), (40, 40))


@dataclass
class ImageStore:
    """Images that the page refers to by number.

    Args:
        budget: Largest number of bytes of all encoded images.
    """

    budget: int
    _numbers: dict[tuple[str, int, View], int] = field(default_factory=dict)
    _found: list[Thumbnail] = field(default_factory=list)
    _dropped: set[int] = field(default_factory=set)

    def add(self, images: RunImages, image_id: int, view: View) -> tuple[int | None, str]:
        """Read an image, unless it is known already.

        Args:
            images: Files of the images.
            image_id: Id of the image.
            view: Part to show.

        Returns:
            Its number, and an empty text; or None, and one or two words that say why it is not shown.
        """
        key = (str(images.root), image_id, view)
        if key not in self._numbers:
            self._numbers[key] = len(self._found)
            self._found.append(thumbnail(images, image_id, view, _LEVELS[0][0]))
        number = self._numbers[key]
        found = self._found[number]
        return (None, found.problem) if found.pixels is None else (number, "")

    def smallest_sizes(self) -> dict[int, int]:
        """Return the number of bytes that each image has on the page at the smallest size."""
        return {number: _n_bytes(_encode(pixels, *_LEVELS[-1])) for number, pixels in self._shown().items()}

    def keep(self, numbers: Collection[int]) -> None:
        """Drop all other images.

        Args:
            numbers: Numbers of images.
        """
        self._dropped = set(range(len(self._found))) - set(numbers)

    def _shown(self) -> dict[int, np.ndarray]:
        return {
            number: found.pixels
            for number, found in enumerate(self._found)
            if found.pixels is not None and number not in self._dropped
        }

    def definitions(self) -> Markup:
        """Return an invisible picture that contains all images, for `<use href="#i0">`.

        All have the largest size of `_LEVELS` at which they stay within the budget; if none does, there are no images, see
        `query_budget`.
        """
        shown = self._shown()
        for side, quality in _LEVELS:
            encoded: dict[int, bytes] = {}
            total = 0
            for number, pixels in shown.items():
                encoded[number] = _encode(pixels, side, quality)
                total += _n_bytes(encoded[number])
                if total > self.budget:
                    break
            else:
                images = [_definition(number, data) for number, data in encoded.items()]
                return element("svg", element("defs", *images), class_="store", aria_hidden="true", width=0, height=0)
        return Markup("")


def _n_bytes(data: bytes) -> int:
    """Return the size of an image on the page, in base64 and with its element."""
    return 4 * len(data) // 3 + 90


def _encode(pixels: np.ndarray, side: int, quality: int) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()


def _definition(number: int, data: bytes) -> Markup:
    source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    return element("image", id=f"i{number}", href=source, width=100, height=100)
