"""Uploaded images: decoded, kept in memory for a while, never written under their own name."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dmlbench.errors import UserError
from dmlbench.web.decoder import Decoder
from dmlbench.web.least_used import LeastUsed
from dmlbench.web.pictures import framed_jpeg
from dmlbench.web.run_state import Stamp
from dmlbench.web.snapshot import Model

_MAX_BYTES = 512 * 2**20  # of pixels of all uploads together


@dataclass(frozen=True, eq=False)
class Upload:
    """An uploaded image.

    Args:
        token: Random name, by which the browser refers to it.
        pixels: uint8 `(H, W, 3)`, upright.
        picture: Small copy, as a JPEG file.
        content: SHA-256 of the pixels, by which embeddings are remembered.
    """

    token: str
    pixels: np.ndarray
    picture: bytes
    content: str


class Uploads:
    """The uploaded images that are kept; the least recently used one leaves first.

    Args:
        decoder: Decodes files.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._kept: LeastUsed[str, Upload] = LeastUsed(_MAX_BYTES, lambda upload: upload.pixels.nbytes)
        self._embeddings: LeastUsed[tuple[str, str, Stamp], np.ndarray] = LeastUsed(10_000)

    def add(self, content: bytes) -> Upload:
        """Decode and keep an image.

        Args:
            content: Content of the file.

        Raises:
            UserError: It is not an image that is accepted.
        """
        upload = self.decoded(content)
        self._kept.put(upload.token, upload)
        return upload

    def decoded(self, content: bytes) -> Upload:
        """Decode an image without keeping it.

        Args:
            content: Content of the file.

        Raises:
            UserError: It is not an image that is accepted.
        """
        return self.of_pixels(self._decoder.decode(content))

    def of_pixels(self, pixels: np.ndarray) -> Upload:
        """Return pixels as an upload that is not kept.

        Args:
            pixels: uint8 `(H, W, 3)`.
        """
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        return Upload(secrets.token_urlsafe(16), pixels, framed_jpeg(pixels), digest)

    def get(self, token: str) -> Upload:
        """Return an upload.

        Args:
            token: Its random name.

        Raises:
            UserError: It is no longer kept.
        """
        found = self._kept.find(token)
        if found is None:
            raise UserError("this image is no longer in memory; upload it again")
        return found

    def embedding(self, upload: Upload, model: Model, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the embedding of an upload by a model, computed once.

        Args:
            upload: The image.
            model: The model.
            make: Computes it.
        """
        return self._embeddings.get((upload.content, model.key, model.stamp), make)
