"""What the readers of published attributes share: find their files, and read them quickly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.errors import UserError

PUBLISHED = "published"  # the value of `dataset.attributes`
WITHOUT = "dataset.attributes=null reads no attributes"  # what to do if the files are not as published


def find_attributes(attributes: str | None, files: Mapping[str, Path | None]) -> tuple[dict[str, Path] | None, str]:
    """Find the files of published attributes.

    Args:
        attributes: `published`, or None for no attributes.
        files: Published name of each file to its path; None if it is missing.

    Returns:
        The files, or None if one is missing or attributes are not wanted; and what the user can do in this case.

    Raises:
        UserError: `attributes` has another value.
    """
    if attributes is None:
        return None, f"read them with dataset.attributes={PUBLISHED}"
    if attributes != PUBLISHED:
        raise UserError(f"dataset.attributes is {attributes!r}; it must be '{PUBLISHED}', or null to read no attributes")
    missing = [name for name, path in files.items() if path is None]
    if missing:
        return None, f"put {' and '.join(missing)}, as published, into the directory of the data set"
    return {name: path for name, path in files.items() if path is not None}, ""


def read_integers(file: Path, columns: int, skip: int = 0, first_is_text: bool = False) -> pd.DataFrame:
    """Read the first columns of a file of attributes, which has millions of whole numbers.

    Args:
        file: The file.
        columns: Number of columns. Further fields of a line are ignored.
        skip: Number of header lines.
        first_is_text: Whether the first column is text.

    Raises:
        UserError: The file cannot be read, a line has too few fields, or a field is no whole number.
    """
    dtypes: dict[int, type] = {**dict.fromkeys(range(columns), np.int32), **({0: str} if first_is_text else {})}
    try:
        return pd.read_csv(file, sep=r"\s+", header=None, skiprows=skip, usecols=range(columns), dtype=dtypes, quoting=3)
    except (OSError, ValueError, OverflowError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{file} cannot be read as {columns} whole numbers per line: {reason}; {WITHOUT}") from None
