"""Generated data sets are written once, into a folder named after what made them, and listed afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from dmlbench.errors import UserError
from dmlbench.system.atomic_write import atomic_directory

LISTING = "images.csv"


def generated(
    root: Path, name: str, arguments: Mapping[str, int], generate: Callable[[Path], pd.DataFrame]
) -> tuple[str, pd.DataFrame]:
    """List a generated folder, which is made at the first call.

    It is generated under another name and renamed when complete, so a killed process leaves no half of it, and of two
    processes at once the slower one drops its copy.

    Args:
        root: the folder to hold it, made if need be.
        name: first part of its name; the second is a digest of name and arguments.
        arguments: all that the images depend on, the generator's version included.
        generate: writes the images into the empty folder it is given and returns a line for each, `path` among them.

    Returns:
        The folder's name under `root`, and what `generate` returned, as read from its listing.

    Raises:
        UserError: images of a complete folder were removed later.
    """
    key = hashlib.sha256(json.dumps([name, dict(arguments)], sort_keys=True).encode()).hexdigest()[:10]
    folder = root / f"{name}-{key}"
    if not folder.is_dir():
        _build(folder, generate)
    # Everything is text unless its reader says otherwise: class 07 is not class 7.
    listing = pd.read_csv(folder / LISTING, dtype=str)
    missing = [path for path in listing["path"] if not (folder / path).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing):,} of its {len(listing):,} generated images, such as {missing[0]};"
            " delete the folder and it is made again"
        )
    return folder.name, listing


def _build(folder: Path, generate: Callable[[Path], pd.DataFrame]) -> None:
    try:
        with atomic_directory(folder) as temporary:
            generate(temporary).to_csv(temporary / LISTING, index=False, lineterminator="\n")
    except OSError:
        if not folder.is_dir():  # else another process was faster, and its copy equals ours
            raise


def require_whole(name: str, argument: str, value: int, least: int, most: int) -> None:
    """Refuse an argument of a generated data set that is no whole number of its range.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UserError(f"dataset/{name}: {argument} is {value!r}, but must be a whole number from {least} to {most}")
