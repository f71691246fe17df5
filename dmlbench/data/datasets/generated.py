"""Generated data sets: written once, into a directory that is named by their arguments, and listed afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from dmlbench.errors import UserError
from dmlbench.system.atomic_write import atomic_directory, remove_leftovers

LISTING = "images.csv"


def generate_once(
    root: Path, name: str, arguments: Mapping[str, int], generate: Callable[[Path], pd.DataFrame]
) -> tuple[str, pd.DataFrame]:
    """Generate a data set, unless it exists, and return its listing.

    The directory is generated under a temporary name and renamed when it is complete, so a killed process leaves no
    incomplete data set. If two processes generate it at once, the slower one discards its copy.

    Args:
        root: Directory of generated data sets. It is created if it does not exist.
        name: First part of the directory's name. The second part is a digest of name and arguments.
        arguments: Everything that the images depend on, including the version of the generator.
        generate: Writes the images into the empty directory that it receives, and returns one row per image, with a column
            `path`.

    Returns:
        Name of the directory under `root`, and the rows of `generate` as read from the listing; all values are text.

    Raises:
        UserError: Images of a complete directory have been removed.
    """
    digest = hashlib.sha256(json.dumps([name, dict(arguments)], sort_keys=True).encode()).hexdigest()[:10]
    folder = root / f"{name}-{digest}"
    if folder.is_dir():
        remove_leftovers(folder)  # of a process that was killed while another one generated the same data set
    else:
        _build(folder, generate)
    # Everything is read as text, because class 07 is not class 7.
    listing = pd.read_csv(folder / LISTING, dtype=str)
    missing = [path for path in listing["path"] if not (folder / path).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing):,} of its {len(listing):,} generated images, such as {missing[0]};"
            " delete the directory, and it is generated again"
        )
    return folder.name, listing


def _build(folder: Path, generate: Callable[[Path], pd.DataFrame]) -> None:
    try:
        with atomic_directory(folder) as temporary:
            generate(temporary).to_csv(temporary / LISTING, index=False, lineterminator="\n")
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster, and its copy is identical
            raise


def require_integer(name: str, argument: str, value: int, least: int, most: int) -> None:
    """Refuse an argument of a generated data set that is not a whole number in its range.

    Args:
        name: Name of the data set.
        argument: Name of the argument.
        value: Its value.
        least: Smallest allowed value.
        most: Largest allowed value.

    Raises:
        UserError: The value is not a whole number, or out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UserError(f"dataset/{name}: {argument} is {value!r}, but must be a whole number from {least} to {most}")
