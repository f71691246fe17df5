"""What the readers of published data sets share: find and parse annotation files, and make a split from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.config.requirements import require_directory
from dmlbench.data.images import size_bytes
from dmlbench.data.split import ROLES, Split
from dmlbench.data.split_rules import DRAWN_RULES, draw_roles, refuse_unused_seed
from dmlbench.errors import UserError, suggest

RULES = ("zero_shot", *DRAWN_RULES)


def find_directory(root: str, file: str, dataset: str) -> Path:
    """Find the directory that contains an annotation file: the root, or one or two levels below it, as archives unpack.

    Args:
        root: Directory that the user set.
        file: Published path of the file, such as `images.txt` or `Eval/list_eval_partition.txt`.
        dataset: Name of the data set, for error messages.

    Raises:
        UserError: The root is not a directory, or does not contain the file.
    """
    require_directory(root, dataset)
    top = Path(root)
    for pattern in (file, f"*/{file}", f"*/*/{file}"):
        matches = sorted(path for path in top.glob(pattern) if not _is_hidden(path.relative_to(top)))
        if matches:
            return Path(str(matches[0])[: -len(file) - 1])
    raise UserError(
        f"dataset/{dataset}: {root} does not contain {file}, so it is not the published data set; "
        "set another directory with dataset.root=DIRECTORY"
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def read_lines(file: Path) -> list[str]:
    """Read the lines of an annotation file.

    Args:
        file: The file.

    Raises:
        UserError: The file is missing or unreadable.
    """
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the annotation file {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_list(file: Path, columns: Sequence[str], skip: int = 0) -> pd.DataFrame:
    """Read an annotation file with one row per line and fields separated by white space.

    Args:
        file: The file.
        columns: Names of the fields.
        skip: Number of header lines.

    Returns:
        One row per line; all values are text.

    Raises:
        UserError: The file is missing or unreadable, or a line has another number of fields.
    """
    fields = [line.split() for line in read_lines(file)[skip:] if line.strip()]
    for number, line in enumerate(fields, start=skip + 1):
        if len(line) != len(columns):
            raise UserError(
                f"{file}, line {number}: {len(line)} fields, but the published file has {len(columns)}: {' '.join(columns)}"
            )
    return pd.DataFrame(fields, columns=list(columns), dtype=str)


def to_integers(file: Path, column: pd.Series) -> pd.Series:
    """Convert a column of text to int64.

    Args:
        file: File of the column, for error messages.
        column: Named series of text.

    Raises:
        UserError: A value is not a whole number.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0)
    if wrong.any():
        raise UserError(f"{file}: {column.name} is '{column[wrong].iloc[0]}', but must be a whole number")
    return numbers.astype(np.int64)


def make_split(
    frame: pd.DataFrame, root: Path, dataset: str, source: str, rule: str, split_seed: int, group_kind: str | None = None
) -> Split:
    """Make the split of a published data set from its annotations.

    Args:
        frame: One row per image: path, label (numbers or names, whose order is that of the classes), class_name, the
            published roles, and other columns of a split.
        root: Directory that `path` is relative to.
        dataset: Name of the data set, for error messages.
        source: Annotation file of the frame, for error messages.
        rule: `zero_shot`: the published roles. `half_per_class`: half of the images of each class are training images.
            Others: see `split_rules`.
        split_seed: Seed of all rules except `zero_shot`.
        group_kind: What the column `group` contains, if the frame has one.

    Returns:
        The split, with labels 0-based and without gaps, and with the sizes of the files.

    Raises:
        UserError: The rule is unknown or does not use the seed, an image is listed twice, or listed images do not exist.
    """
    if rule not in RULES:
        raise UserError(f"dataset.split is '{rule}'{suggest(rule, RULES)}")
    repeated = frame["path"][frame["path"].duplicated()]
    if len(repeated):
        raise UserError(f"dataset/{dataset}: {source} repeats {len(repeated):,} of its images, such as {repeated.iloc[0]}")
    sizes = [size_bytes(root / path) for path in frame["path"]]
    missing = [path for path, size in zip(frame["path"], sizes, strict=True) if size is None]
    if missing:
        raise UserError(
            f"dataset/{dataset}: {source} lists {len(sizes):,} images, but {len(sizes) - len(missing):,} are under {root}: "
            f"{len(missing):,} are missing or renamed, such as {missing[0]}"
        )
    frame = frame.assign(
        label=np.unique(frame["label"], return_inverse=True)[1].astype(np.int64), size_bytes=np.array(sizes, dtype=np.int64)
    )
    notes: tuple[str, ...] = ()
    if rule == "zero_shot":
        refuse_unused_seed(rule, split_seed)
    else:
        frame, note = draw_roles(rule, frame, split_seed)
        notes = (note,)
    leading = ["path", "label", "class_name", *ROLES]
    frame = frame[leading + [name for name in frame.columns if name not in leading]].reset_index(drop=True)
    return Split(frame, root, notes, origin="published", group_kind=group_kind)
