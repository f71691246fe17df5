"""A client of the application that does what a browser does: it keeps the cookie and sends the token of the page."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from flask import Flask
from PIL import Image
from werkzeug.test import TestResponse

from dmlbench.web.services import Services
from dmlbench.web.snapshot import Collection, Model


class Browserless:
    """A client with a cookie.

    Args:
        app: The application.
    """

    def __init__(self, app: Flask) -> None:
        self.app = app
        self._client = app.test_client()

    @property
    def services(self) -> Services:
        """The parts of the application."""
        found: Services = self.app.extensions["dmlbench"]
        return found

    @property
    def first(self) -> Collection:
        """The data set with several models."""
        return max(self.services.catalogue.snapshot().collections.values(), key=lambda one: len(one.models))

    @property
    def second(self) -> Collection:
        """The other data set."""
        return min(self.services.catalogue.snapshot().collections.values(), key=lambda one: len(one.models))

    def model(self, loss: str) -> Model:
        """A model of the first data set."""
        return next(model for model in self.first.models if model.row["loss"] == loss)

    def queries(self, model: Model) -> list[int]:
        """The ids of the test queries."""
        embeddings = self.services.catalogue.embeddings(model)
        return [int(one) for one in embeddings.ids[embeddings.is_query]]

    def get(self, path: str, **options: Any) -> TestResponse:
        """Get a page, also after a redirection."""
        return self._client.get(path, follow_redirects=True, **options)

    def token(self) -> str:
        """The token of a page."""
        found = re.search(r'name="csrf" content="([^"]+)"', self.get("/api").text)
        assert found
        return found[1]

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        """Post a form with the token of a page."""
        return self._client.post(path, data={"csrf": self.token(), **(data or {})}, **options)

    def post_without_token(self, path: str, **options: Any) -> TestResponse:
        """Post exactly what is given."""
        return self._client.post(path, **options)

    def upload(self, content: bytes, name: str = "photo.png", **fields: Any) -> TestResponse:
        """Upload a file."""
        return self.post("/upload", {"file": (io.BytesIO(content), name), **fields}, content_type="multipart/form-data")


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """An image file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
