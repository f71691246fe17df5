"""The parts that pages share, and the reading of parameters of requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from flask import abort, current_app, request

from dmlbench.errors import UserError
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages
from dmlbench.web.catalogue import Catalogue
from dmlbench.web.decoder import Decoder
from dmlbench.web.least_used import LeastUsed
from dmlbench.web.models import Models
from dmlbench.web.pictures import Pictures, Tokens
from dmlbench.web.ratings import Ratings
from dmlbench.web.run_state import Stamp
from dmlbench.web.search import MAX_K, Calibration
from dmlbench.web.snapshot import Collection, Model, Snapshot
from dmlbench.web.uploads import Uploads

ALL = "all"
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Args:
        paths: Directories of runs, or rows, to offer; or a function that returns them, which is called again and again.
        directory: Directory of the application's own files, `runs/.web`.
        options: Overrides that the user typed, such as `dataset.root=photos`.
        config_dir: Directory of the user's own configuration files.
        hosts: Additional names by which the server may be addressed.
        add_models: Directory of uploaded models; None if models cannot be uploaded.
    """

    paths: Sequence[Path] | Callable[[], Sequence[Path]]
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
        calibrations: Calibration of each model for the search of all data sets.
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
    calibrations: LeastUsed[tuple[str, Stamp], Calibration] = field(default_factory=lambda: LeastUsed(1000))
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
    if key:
        named_model(key)
    return collection.default


def named_model(key: str) -> Model:
    """Return a model.

    Args:
        key: Its run id.

    Raises:
        UserError: The run cannot be used. The text says why.
    """
    found = snapshot()
    if key not in found.models:
        if key in found.refused:
            raise UserError(found.refused[key])
        abort(404, "There is no such model (any more); /api/models lists them.")
    return found.models[key]


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
    number = parse_whole(text, low, high)
    if number is None:
        abort(400, f"{name} must be a whole number from {low} to {high}.")
    return number


def parse_whole(text: str, low: int, high: int) -> int | None:
    """Return the whole number that a text is; None if it is none in a range.

    Args:
        text: Text from a request.
        low: Smallest number.
        high: Largest number.
    """
    return int(text) if _WHOLE.fullmatch(text) and low <= int(text) <= high else None


def chosen_k(default: int = 10) -> int:
    """Return the number of images that the request asks for.

    Args:
        default: Value if it is not given.
    """
    return whole_number("k", default, 1, MAX_K)
