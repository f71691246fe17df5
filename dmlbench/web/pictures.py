"""Small pictures of the images of a data set, all of one size, and the random names by which pages refer to them."""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dmlbench.data.images import read_pixels
from dmlbench.errors import UserError
from dmlbench.pictures.thumbnails import View, thumbnail
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages
from dmlbench.web.least_used import LeastUsed
from dmlbench.web.run_state import Stamp
from dmlbench.web.snapshot import Collection

PX = 224
_BACKGROUND = (128, 128, 128)
_PICTURE_BYTES = 64 * 2**20
_MAX_TOKENS = 200_000
_RETRY_SECONDS = 5.0  # after which a list of images that was not found is looked up again
_TRIED = 3  # runs of a data set whose list of images is looked up
FindImages = Callable[[Row], RunImages]


def framed_jpeg(pixels: np.ndarray) -> bytes:
    """Scale an image to fit a square, and encode it. All results have the same number of pixels.

    Args:
        pixels: uint8 `(H, W, 3)`.
    """
    square = Image.new("RGB", (PX, PX), _BACKGROUND)
    image = Image.fromarray(pixels)
    scale = PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    square.paste(image, ((PX - image.width) // 2, (PX - image.height) // 2))
    return _encoded(square)


def missing_jpeg(problem: str) -> bytes:
    """Return a square with the reason why an image is not shown.

    Args:
        problem: One or two words.
    """
    square = Image.new("RGB", (PX, PX), _BACKGROUND)
    ImageDraw.Draw(square).text((PX / 2, PX / 2), problem, (255, 255, 255), ImageFont.load_default(28), anchor="mm")
    return _encoded(square)


def _encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


class MissingImageError(UserError):
    """An image cannot be shown.

    Args:
        problem: Why, one or two words.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"an image cannot be shown: {problem}")
        self.problem = problem


class Pictures:
    """Reads images of data sets. The lists of their files are looked up when the first image is needed.

    Args:
        find_images: Returns the files of a run's images, or raises a `UserError`.
    """

    def __init__(self, find_images: FindImages) -> None:
        self._find = find_images
        self._lists: LeastUsed[tuple[str, tuple[Stamp, ...]], RunImages] = LeastUsed(64)
        self._failures: dict[str, tuple[float, UserError]] = {}
        self._jpegs: LeastUsed[tuple[str, tuple[Stamp, ...], int], bytes] = LeastUsed(_PICTURE_BYTES, len)
        self._finding = threading.Lock()  # composing a configuration is not safe in several threads

    def files(self, collection: Collection) -> RunImages:
        """Return the files of the images of a data set.

        Args:
            collection: Data set.

        Raises:
            UserError: They are not known. The text says why.
        """
        return self._lists.get((collection.key, collection.stamp), lambda: self._found(collection))

    def problem(self, collection: Collection, image_ids: Sequence[int]) -> str | None:
        """Return a sentence about images of a page that cannot be shown; None if they all can.

        The list of a run of an earlier version is not looked up for this, because that takes seconds.

        Args:
            collection: Data set.
            image_ids: Ids of the images.
        """
        if not any((Path(model.row.folder or "") / run_files.IMAGES).is_file() for model in collection.models[:_TRIED]):
            return None
        try:
            files = self.files(collection)
        except UserError as error:
            return f"The images cannot be shown: {error}"
        missing = [one for one in set(image_ids) if one not in files.index or not _path(files, one).is_file()]
        if not missing:
            return None
        return f"{len(missing)} of these images cannot be shown, because the files are not in {files.root}."

    def jpeg(self, collection: Collection, image_id: int) -> bytes:
        """Return a picture of an image.

        Args:
            collection: Data set.
            image_id: Id of the image.

        Raises:
            MissingImageError: The image cannot be shown.
        """
        return self._jpegs.get((collection.key, collection.stamp, image_id), lambda: self._jpeg(collection, image_id))

    def pixels(self, collection: Collection, image_id: int) -> np.ndarray:
        """Return the pixels of an image, for another data set's model.

        Args:
            collection: Data set.
            image_id: Id of the image.

        Raises:
            UserError: The image is not known, or cannot be read.
        """
        files = self.files(collection)
        if image_id not in files.index:
            raise UserError(f"the file of image {image_id} of {collection.label} is not known")
        return read_pixels(_path(files, image_id), upright=_upright(collection))

    def _found(self, collection: Collection) -> RunImages:
        with self._finding:
            failed, reason = self._failures.get(collection.key, (-_RETRY_SECONDS, UserError("")))
            if time.monotonic() < failed + _RETRY_SECONDS:
                raise reason
            for model in collection.models[:_TRIED]:
                try:
                    return self._find(model.row)
                except UserError as error:
                    reason = error
            self._failures[collection.key] = time.monotonic(), reason
            raise reason

    def _jpeg(self, collection: Collection, image_id: int) -> bytes:
        try:
            files = self.files(collection)
        except UserError:
            raise MissingImageError("not found") from None
        shown = thumbnail(files, image_id, View(upright=_upright(collection)), 2 * PX)
        if shown.pixels is None:
            raise MissingImageError(shown.problem)
        return framed_jpeg(shown.pixels)


def _path(files: RunImages, image_id: int) -> Path:
    return files.root / files.paths[files.index[image_id]]


def _upright(collection: Collection) -> bool:
    return collection.models[0].row.get("protocol_exif_orientation") == "applied"


class Tokens:
    """Random names of images. They say nothing about an image, and the same image has another name in another scope."""

    def __init__(self) -> None:
        self._images: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._names: dict[tuple[Hashable, str, int], str] = {}
        self._scopes: dict[str, Hashable] = {}
        self._lock = threading.Lock()

    def name(self, collection: str, image_id: int, scope: Hashable = None) -> str:
        """Return the name of an image.

        Args:
            collection: Key of its data set.
            image_id: Its id.
            scope: Where the name is used.
        """
        with self._lock:
            key = (scope, collection, image_id)
            token = self._names.get(key)
            if token is None:
                token = self._names[key] = secrets.token_urlsafe(16)
                self._images[token], self._scopes[token] = (collection, image_id), scope
                if len(self._images) > _MAX_TOKENS:
                    old, image = self._images.popitem(last=False)
                    del self._names[(self._scopes.pop(old), *image)]
            return token

    def image(self, token: str) -> tuple[str, int] | None:
        """Return the data set's key and the id of an image; None if the name is not known.

        Args:
            token: Name of the image.
        """
        return self._images.get(token)
