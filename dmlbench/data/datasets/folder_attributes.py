"""Binary attributes of the images of a user: columns of the manifest, or another CSV file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.attributes import Attributes
from dmlbench.data.datasets.manifest import COLUMNS, find_column, find_csv, read_csv
from dmlbench.errors import UserError

KEY = "dataset.attributes"
HINT = (
    "use dataset.attributes=FILE, a CSV file with the column path and one column of 0 and 1 per attribute, or "
    "dataset.attributes=[PATTERN], names of columns of dataset.manifest"
)


def read_attributes(
    attributes: str | Sequence[str] | None, root: Path, paths: pd.Series, manifest: Path | None, columns: pd.DataFrame
) -> Attributes | None:
    """Read the attributes of images, with a missing value where the text is empty.

    Args:
        attributes: Path of a CSV file, also relative to `root`; or patterns of names of columns of the manifest, such as
            `has_*`. None for no attributes.
        root: Directory of the images.
        paths: Path of each image, relative to `root`.
        manifest: The manifest; None if there is none.
        columns: Columns of the manifest that may be attributes, as text, one row per image.

    Returns:
        The attributes in the order of `paths`, or None.

    Raises:
        UserError: A file or a column is missing, a value is neither 0, 1 nor empty, no image has an attribute, or the CSV file
            lists an image that does not exist.
    """
    if attributes is None:
        return None
    if isinstance(attributes, str) and (attributes.lower().endswith(".csv") or (root / attributes).is_file()):
        file = find_csv(root, attributes, KEY)
        return _to_attributes(_of_images(file, paths), file)
    patterns = [attributes] if isinstance(attributes, str) else [str(pattern) for pattern in attributes]
    if manifest is None:
        given = attributes if isinstance(attributes, str) else f"[{','.join(patterns)}]"
        raise UserError(f"{KEY}={given} needs dataset.manifest=FILE, a CSV file with such columns, or the name of a CSV file")
    return _to_attributes(_matching(columns, patterns, manifest), manifest)


def _matching(columns: pd.DataFrame, patterns: Sequence[str], manifest: Path) -> pd.DataFrame:
    """Return the columns that match a pattern, in the order of the manifest."""
    found = {
        pattern: [name for name in columns if fnmatchcase(str(name).strip().lower(), pattern.strip().lower())]
        for pattern in patterns
    }
    unmatched = next((pattern for pattern, names in found.items() if not names), None)
    if unmatched is not None or not found:
        others = ", ".join(map(str, columns)) or "none besides those with a meaning of their own"
        raise UserError(f"{KEY}: no column of {manifest} matches '{unmatched or ''}'; columns that can be attributes: {others}")
    matched = set().union(*found.values())
    return columns[[name for name in columns if name in matched]]


def _of_images(file: Path, paths: pd.Series) -> pd.DataFrame:
    """Return the columns of a CSV file that can be attributes, with empty text for images that it does not list."""
    table = read_csv(file, KEY)
    path_column = find_column(table, "path")
    if path_column is None:
        separator = "; values must be separated by commas" if table.shape[1] == 1 else ""
        raise UserError(f"{KEY} {file} has no column path; it has {', '.join(map(str, table.columns))}{separator}")
    table = table.set_index(table.pop(path_column).str.strip().map(os.path.normpath))
    repeated = table.index[table.index.duplicated()]
    if len(repeated):
        raise UserError(f"{KEY} {file} repeats {len(repeated):,} of its images, such as {repeated[0]}")
    unknown = table.index[~table.index.isin(paths)]
    if len(unknown):
        raise UserError(
            f"{KEY} {file}: {len(unknown):,} of {len(table):,} paths are not images of the data set, such as {unknown[0]}; "
            "paths must be relative to dataset.root"
        )
    own = [name for name in (find_column(table, column) for column in COLUMNS) if name is not None]  # as in a manifest
    return table.drop(columns=own).reindex(paths, fill_value="").reset_index(drop=True)


def _to_attributes(columns: pd.DataFrame, file: Path) -> Attributes:
    if columns.shape[1] == 0:
        raise UserError(f"{KEY} {file} has no column besides the path; add one column of 0 and 1 per attribute")
    values = [_to_values(str(name), columns[name], file) for name in columns]
    return Attributes(tuple(str(name).strip() for name in columns), np.stack(values, axis=1))


def _to_values(name: str, column: pd.Series, file: Path) -> np.ndarray:
    """Convert the text of one attribute to 0, 1 and NaN."""
    texts = column.str.strip()
    is_missing = (texts == "").to_numpy()
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float32)
    wrong = ~is_missing & (values != 0) & (values != 1)
    if wrong.any():
        value = f"the column '{name}' of {file} has the value '{texts[wrong.argmax()]}'"
        raise UserError(f"{KEY}: {value}; attributes must be 0, 1, or empty if it is not known")
    if not (values == 1).any():
        zeros, missing = int((~is_missing).sum()), int(is_missing.sum())
        raise UserError(
            f"{KEY}: no image has the attribute '{name}' of {file} ({zeros:,} values are 0 and {missing:,} are missing); leave "
            "the column out"
        )
    return values
