"""The list of the test images of a run: which file each embedding belongs to. It is written beside the embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.system.regular_files import read_json

MAX_BYTES = 2**30  # 60,502 images have 8 MB
_SHA256_DIGITS = 64
_MOST_PIXELS = 1e9  # of a coordinate of a box


@dataclass(frozen=True)
class RunImages:
    """The files of the images that have an embedding.

    Args:
        root: Directory that paths are relative to.
        ids: Id of each image, as in the files of embeddings.
        paths: Path of each image below `root`, with slashes.
        sha256: SHA-256 of each file when the run read it, empty if it is not known; None if no hash is known.
        boxes: x, y, width and height of the object in each image, in pixels of the file; None without boxes.
    """

    root: Path
    ids: Sequence[int]
    paths: Sequence[str]
    sha256: Sequence[str] | None = None
    boxes: Sequence[Sequence[float]] | None = None

    @cached_property
    def index(self) -> dict[int, int]:
        """Id to index into `paths`."""
        return {image_id: index for index, image_id in enumerate(self.ids)}

    def below(self, root: Path) -> RunImages:
        """Return the same images in another directory.

        Args:
            root: The directory.
        """
        return replace(self, root=root)

    @property
    def columns(self) -> dict[str, Any]:
        """The values in the file, as `read_run_images` reads them."""
        return {"root": str(self.root), "ids": self.ids, "paths": self.paths, "sha256": self.sha256, "boxes": self.boxes}


def read_run_images(folder: Path) -> RunImages | None:
    """Read the list of images of a run. A run directory may come from somebody else, so nothing in it is trusted.

    Args:
        folder: Directory of the run.

    Returns:
        The list; None if the run was written by an earlier version, which wrote none.

    Raises:
        UserError: The file cannot be read, or contains something else, such as a path that leads out of its root.
    """
    file = folder / run_files.IMAGES
    try:
        values = read_json(file, MAX_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a list of images: {getattr(error, 'strerror', None) or error}") from None
    if problem := _problem(values):
        raise UserError(f"{file} is not a list of images: {problem}")
    return RunImages(
        root=Path(values["root"]),
        ids=values["ids"],
        paths=values["paths"],
        sha256=values.get("sha256"),
        boxes=values.get("boxes"),
    )


def _problem(values: Any) -> str | None:
    """Say what is wrong with the contents of a file; None if they can be used."""
    if not isinstance(values, dict) or not isinstance(values.get("root"), str):
        return "it has no 'root'"
    ids, paths = values.get("ids"), values.get("paths")
    hashes, boxes = values.get("sha256"), values.get("boxes")
    if not _are(ids, lambda one: type(one) is int) or len(set(ids)) < len(ids):
        return "'ids' are not different whole numbers"
    if not _are(paths, lambda one: isinstance(one, str)) or len(paths) != len(ids):
        return "'paths' are not one text per id"
    outside = [path for path in paths if not is_below(path)]
    if outside:
        return f"the path {outside[0][:80]!r} leads out of the directory of the images"
    if hashes is not None and (len(hashes) != len(ids) or not _are(hashes, _is_sha256)):
        return "'sha256' are not one hash per id"
    if boxes is not None and (len(boxes) != len(ids) or not _are(boxes, _is_box)):
        return "'boxes' are not four numbers per id"
    return None


def _are(values: Any, accepted: Callable[[Any], bool]) -> TypeGuard[list[Any]]:
    return isinstance(values, list) and all(map(accepted, values))


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and (not value or (len(value) == _SHA256_DIGITS and value.isalnum()))


def _is_box(value: Any) -> bool:
    return _are(value, lambda one: type(one) in (int, float) and abs(one) <= _MOST_PIXELS) and len(value) == 4


def is_below(path: str) -> bool:
    """Return whether a path stays below the directory that it is relative to.

    Args:
        path: Path with slashes.
    """
    parts = PurePosixPath(path).parts
    return bool(parts) and "\0" not in path and not path.startswith("/") and ".." not in parts
