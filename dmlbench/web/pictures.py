"""Small pictures of the images of a data set, all of one size, and the random names by which pages refer to them."""

from __future__ import annotations

import io
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np
from PIL import Image

from dmlbench.data.images import read_pixels
from dmlbench.errors import UserError
from dmlbench.pictures.thumbnails import View, thumbnail
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages
from dmlbench.web.catalogue import Collection
from dmlbench.web.least_used import LeastUsed

PX = 224
_BACKGROUND = (128, 128, 128)
_PICTURE_BYTES = 64 * 2**20
_MAX_TOKENS = 200_000
FindImages = Callable[[Row], RunImages]


def framed_jpeg(pixels: np.ndarray | None) -> bytes:
    """Scale an image to fit a square, and encode it. All results have the same number of pixels.

    Args:
        pixels: uint8 `(H, W, 3)`; None for an empty square.
    """
    square = Image.new("RGB", (PX, PX), _BACKGROUND)
    if pixels is not None:
        image = Image.fromarray(pixels)
        scale = PX / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
        square.paste(image, ((PX - image.width) // 2, (PX - image.height) // 2))
    out = io.BytesIO()
    square.save(out, "JPEG", quality=85)
    return out.getvalue()


class Pictures:
    """Reads images of data sets. The lists of their files are looked up when the first image is needed.

    Args:
        find_images: Returns the files of a run's images, or raises a `UserError`.
    """

    def __init__(self, find_images: FindImages) -> None:
        self._find = find_images
        self._lists: LeastUsed[str, RunImages | UserError] = LeastUsed(64)
        self._jpegs: LeastUsed[tuple[str, int], bytes] = LeastUsed(_PICTURE_BYTES, len)
        self._finding = threading.Lock()  # composing a configuration is not safe in several threads

    def files(self, collection: Collection) -> RunImages:
        """Return the files of the images of a data set.

        Args:
            collection: Data set.

        Raises:
            UserError: They are not known. The text says why.
        """
        found = self._lists.get(collection.key, lambda: self._found(collection))
        if isinstance(found, UserError):
            raise found
        return found

    def problem(self, collection: Collection) -> str | None:
        """Return why the images of a data set cannot be shown; None if they can, or if nobody has asked yet.

        Args:
            collection: Data set.
        """
        found = self._lists.find(collection.key)
        return str(found) if isinstance(found, UserError) else None

    def jpeg(self, collection: Collection, image_id: int) -> bytes:
        """Return a picture of an image; an empty square if the image cannot be shown.

        Args:
            collection: Data set.
            image_id: Id of the image.
        """
        return self._jpegs.get((collection.key, image_id), lambda: self._jpeg(collection, image_id))

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
        return read_pixels(files.root / Path(files.paths[files.index[image_id]]), upright=_upright(collection))

    def _found(self, collection: Collection) -> RunImages | UserError:
        reason = UserError(f"there is no run on {collection.label}")
        with self._finding:
            for model in collection.models[:3]:
                try:
                    return self._find(model.row)
                except UserError as error:
                    reason = error
        return reason

    def _jpeg(self, collection: Collection, image_id: int) -> bytes:
        try:
            files = self.files(collection)
        except UserError:
            return framed_jpeg(None)
        return framed_jpeg(thumbnail(files, image_id, View(upright=_upright(collection)), 2 * PX).pixels)


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
