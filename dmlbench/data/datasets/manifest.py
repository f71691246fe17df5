"""CSV manifests of the images of a user: find, read and validate them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.images import size_bytes
from dmlbench.data.split import BOX
from dmlbench.errors import UserError, suggest

KEY = "dataset.manifest"
# Accepted names of the columns of a manifest, in the order of preference.
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img", "img_path"),
    "label": ("label", "class_id", "class", "target", "category", "category_id", "id"),
    "class_name": ("class_name", "label_name", "category_name"),
    "role": ("role", "split", "subset", "set"),
    "group": ("group",),
    "box": ("box", "bbox", "bounding_box"),
}


def find_csv(root: Path, name: str, key: str = KEY) -> Path:
    """Find a CSV file.

    Args:
        root: Directory of the images.
        name: Path of the file, also relative to `root`.
        key: Key of the file in the configuration, for error messages.

    Raises:
        UserError: There is no such file.
    """
    for file in (Path(name), root / name):
        if file.is_file():
            return file
    raise UserError(f"{key} '{name}' does not exist, neither as a path nor under {root}")


def find_column(table: pd.DataFrame, column: str) -> str | None:
    """Return the name of a column under one of its accepted names; None if there is no such column.

    Args:
        table: Rows of a CSV file.
        column: Key of `COLUMNS`.
    """
    names = {str(name).strip().lower(): str(name) for name in table.columns}
    return next((names[alias] for alias in COLUMNS[column] if alias in names), None)


def read_manifest(root: Path, file: Path, group: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the rows of a manifest.

    Args:
        root: Directory of the images.
        file: CSV file, whose first line names its columns.
        group: Column with the group of each class; None for the column `group`, if there is one.

    Returns:
        The rows under the names of a split's columns, with the size of every image; and the other columns, as text.

    Raises:
        UserError: The file lacks a column or a value, contradicts itself, or lists images that do not exist.
    """
    raw = read_csv(file)
    names = {str(column).strip().lower(): str(column) for column in raw.columns}
    if group is not None and group.strip().lower() not in names:
        raise UserError(f"dataset.group: {file} has no column '{group}'{suggest(group, map(str, raw.columns))}")
    frame, known = pd.DataFrame(index=raw.index), set()
    columns = COLUMNS if group is None else {**COLUMNS, "group": (group.strip().lower(),)}
    for column, aliases in columns.items():
        name = next((names[alias] for alias in aliases if alias in names), None)
        if name is not None:
            frame[column] = raw[name].str.strip()
            known.add(name)
        elif column in ("path", "label"):
            raise UserError(
                f"dataset.manifest {file} has no column for the {column}: it has {', '.join(map(str, raw.columns))}; "
                f"rename the one that holds it to {column} (also accepted: {', '.join(aliases[1:])})"
            )
    if frame.empty:
        raise UserError(f"dataset.manifest {file} lists no image")
    for column in ("path", "label"):
        if (frame[column] == "").any():
            row = int((frame[column] == "").to_numpy().argmax())
            raise UserError(f"dataset.manifest {file}, line {row + 2}: the {column} is empty")
    frame, known = _with_boxes(frame, raw, names, known, file)
    frame["path"] = frame["path"].map(os.path.normpath)
    frame["size_bytes"] = _sizes(root, frame["path"], file)
    return frame, raw[[column for column in raw.columns if column not in known]]


def read_csv(file: Path, key: str = KEY) -> pd.DataFrame:
    """Read a CSV file, whose first line names its columns. All values are text.

    Args:
        file: The file.
        key: Key of the file in the configuration, for error messages.

    Raises:
        UserError: The file is not UTF-8 or not CSV, a line has more values than there are columns, or a name repeats.
    """
    try:
        lines = pd.read_csv(file, header=None, dtype=str, keep_default_na=False, skipinitialspace=True)
    except UnicodeDecodeError:
        raise UserError(f"{key} {file} is not UTF-8 text; save it in this encoding") from None
    except Exception as error:  # the parser raises exceptions of many classes on files that are not CSV
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key} {file} cannot be read as CSV: {reason}") from None
    names = [name.strip() or f"unnamed {number}" for number, name in enumerate(lines.iloc[0].fillna(""), 1)]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{key} {file} has {names.count(repeated)} columns called '{repeated}'; give each a name of its own")
    return lines[1:].set_axis(names, axis=1).reset_index(drop=True)


def _with_boxes(
    frame: pd.DataFrame, raw: pd.DataFrame, names: dict[str, str], known: set[str], file: Path
) -> tuple[pd.DataFrame, set[str]]:
    """Add boxes as four columns of floats, from four columns or from one."""
    if "box" in frame:
        parts = frame.pop("box").str.strip("[]() ").str.split(r"[,; ]+", expand=True, regex=True)
    elif all(side in names for side in BOX):
        parts = raw[[names[side] for side in BOX]]
        known |= {names[side] for side in BOX}
    else:
        return frame, known
    if parts.shape[1] != len(BOX):
        raise UserError(f"dataset.manifest {file}: a box needs four numbers, {', '.join(BOX)}")
    for side, column in zip(BOX, parts.columns, strict=True):
        frame[side] = pd.to_numeric(parts[column], errors="coerce").astype(float)
    _refuse_bad_boxes(frame, parts, file)
    return frame, known


def _refuse_bad_boxes(frame: pd.DataFrame, parts: pd.DataFrame, file: Path) -> None:
    if ((frame["x"] + frame["width"] <= 1) & (frame["y"] + frame["height"] <= 1) & (frame[list(BOX)] >= 0).all(axis=1)).all():
        raise UserError(
            f"dataset.manifest {file}: all boxes are within 0 and 1; boxes must be in pixels of the file ({', '.join(BOX)}), "
            "not fractions of the image"
        )
    for side, column in zip(BOX, parts.columns, strict=True):
        smallest = 1 if side in ("width", "height") else 0
        wrong = ~(np.isfinite(frame[side]) & (frame[side] >= smallest))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(
                f"dataset.manifest {file}, line {row + 2}: {side} of the box is '{parts[column].iloc[row]}', but must be a "
                f"number of at least {smallest}"
            )


def _sizes(root: Path, paths: pd.Series, file: Path) -> list[int]:
    repeated = paths[paths.duplicated()]
    if len(repeated):
        raise UserError(f"dataset.manifest {file} repeats {len(repeated):,} of its images, such as {repeated.iloc[0]}")
    outside = [path for path in paths if path.split("/")[0] == ".." or os.path.isabs(path)]
    if outside:
        raise UserError(f"dataset.manifest {file}: {outside[0]} is outside {root}; paths must be relative to dataset.root")
    sizes = [size_bytes(root / path) for path in paths]
    missing = [path for path, size in zip(paths, sizes, strict=True) if size is None]
    if missing:
        raise UserError(
            f"dataset.manifest {file}: {len(missing):,} of {len(paths):,} images do not exist under {root}, such as "
            f"{missing[0]}"
        )
    return [size for size in sizes if size is not None]
