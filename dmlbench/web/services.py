"""The parts that pages share, and the reading of parameters of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from flask import abort, current_app, request

from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages
from dmlbench.web.catalogue import Catalogue, Collection, Model, Snapshot
from dmlbench.web.decoder import Decoder
from dmlbench.web.models import Models
from dmlbench.web.pictures import Pictures, Tokens
from dmlbench.web.ratings import Ratings
from dmlbench.web.search import MAX_K
from dmlbench.web.uploads import Uploads

ALL = "all"


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Args:
        paths: Directories of runs, or rows, to offer.
        directory: Directory of the application's own files, `runs/.web`.
        options: Overrides that the user typed, such as `dataset.root=photos`.
        config_dir: Directory of the user's own configuration files.
        hosts: Additional names by which the server may be addressed.
        add_models: Directory of uploaded models; None if models cannot be uploaded.
    """

    paths: Sequence[Path]
    directory: Path
    options: Sequence[str] = ()
    config_dir: Path | None = None
    hosts: Sequence[str] = ()
    add_models: Path | None = None


@dataclass(eq=False)
class Services:
    """The parts that pages share.

    Args:
        settings: What the command line says.
        catalogue: Runs.
        pictures: Images of data sets.
        tokens: Names of images.
        decoder: Decoder of uploads.
        uploads: Uploaded images.
        models: Trained models.
        ratings: Studies and ratings.
        additions: Name and state of each model that was added since the start, the newest first.
    """

    settings: Settings
    catalogue: Catalogue = field(init=False)
    pictures: Pictures = field(init=False)
    tokens: Tokens = field(init=False)
    decoder: Decoder = field(init=False)
    uploads: Uploads = field(init=False)
    models: Models = field(init=False)
    ratings: Ratings = field(init=False)
    additions: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.settings
        self.catalogue = Catalogue(settings.paths)
        self.pictures = Pictures(self._find_images)
        self.tokens = Tokens()
        self.decoder = Decoder(settings.directory / "uploads")
        self.uploads = Uploads(self.decoder)
        self.models = Models(settings.options, settings.config_dir)
        self.ratings = Ratings(settings.directory / "ratings.sqlite3")

    def _find_images(self, row: Row) -> RunImages:
        from dmlbench.runs.image_list import find_images

        try:
            return find_images(row, self.settings.options, self.settings.config_dir)
        except (UserError, OSError):
            raise
        except Exception as error:  # Hydra and OmegaConf, which are only imported for runs of earlier versions
            raise UserError(f"{row.folder}: {str(error).splitlines()[0]}") from None


def services() -> Services:
    """Return the parts of the running application."""
    return cast(Services, current_app.extensions["dmlbench"])


def snapshot() -> Snapshot:
    """Return the runs that there are now."""
    return services().catalogue.snapshot()


def chosen_collection(name: str = "dataset") -> Collection | None:
    """Return the data set that the request names, or the first one; None if there is none, or for all data sets.

    Args:
        name: Name of the parameter.
    """
    found = snapshot().collections
    key = request.args.get(name)
    if key == ALL:
        return None
    if key and key not in found:
        abort(404, "There is no such data set (any more).")
    return found[key] if key else max(found.values(), key=lambda one: len(one.models), default=None)


def chosen_model(collection: Collection) -> Model:
    """Return the model that the request names, or the first trained one of the data set.

    Args:
        collection: Data set.
    """
    key = request.args.get("model")
    by_key = {model.key: model for model in collection.models}
    if key in by_key:
        return by_key[key]
    if key and key not in snapshot().models:
        abort(404, "There is no such model (any more).")
    trained = [model for model in collection.defaults if model.row.get("loss_kind") != "none"]
    return (trained or collection.defaults)[0]


def whole_number(name: str, default: int, low: int, high: int) -> int:
    """Return a parameter of the request that is a whole number.

    Args:
        name: Name of the parameter.
        default: Value if it is not given.
        low: Smallest value.
        high: Largest value.
    """
    text = request.args.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) <= 18 and low <= int(text) <= high):
        abort(400, f"{name} must be a whole number from {low} to {high}.")
    return int(text)


def chosen_k(default: int = 10) -> int:
    """Return the number of images that the request asks for.

    Args:
        default: Value if it is not given.
    """
    return whole_number("k", default, 1, MAX_K)
