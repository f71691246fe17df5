"""What the readers of published data sets share: finding and parsing their lists, and making a split of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.images import size_bytes
from dmlbench.data.split import ROLES, Split
from dmlbench.data.split_rules import HALF_PER_CLASS, half_per_class
from dmlbench.errors import UserError, suggest

RULES = ("zero_shot", "half_per_class")


def folder_with(root: str, file: str, dataset: str) -> Path:
    """The folder that holds a published list: the root itself, or one or two folders below it, as archives bring them.

    Args:
        root: what the user named.
        file: the list's path as it is published, such as `images.txt` or `Eval/list_eval_partition.txt`.
        dataset: the data set's name, for the sentence.

    Raises:
        UserError: there is no such folder, or none with that list.
    """
    place = Path(root)
    if not place.is_dir():
        what = "is no folder" if place.exists() else "does not exist"
        raise UserError(
            f"dataset.root is '{root}', which {what}; get it with `dmlbench data prepare {dataset}`, "
            "or name the folder that holds the data set with dataset.root=FOLDER"
        )
    for pattern in (file, f"*/{file}", f"*/*/{file}"):
        found = sorted(path for path in place.glob(pattern) if not _hidden(path.relative_to(place)))
        if found:
            return Path(str(found[0])[: -len(file) - 1])
    raise UserError(
        f"dataset/{dataset}: there is no {file} under {root}, so this is no published {dataset}; name another folder"
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def listing(file: Path, columns: Sequence[str], skip: int = 0) -> pd.DataFrame:
    """A published list: fields divided by blanks, a line an image; everything is text.

    Args:
        file: the list.
        columns: their names.
        skip: lines before the first.

    Raises:
        UserError: it is missing, or a line has another number of fields.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()[skip:]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list {file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    fields = [line.split() for line in lines if line.strip()]
    for number, line in enumerate(fields, start=skip + 1):
        if len(line) != len(columns):
            raise UserError(f"{file}, line {number}: {len(line)} fields, but {len(columns)} are published: {' '.join(columns)}")
    return pd.DataFrame(fields, columns=list(columns), dtype=str)


def whole_numbers(file: Path, column: pd.Series) -> pd.Series:
    """A column of text as int64.

    Raises:
        UserError: a line is no whole number.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = numbers.isna() | (numbers % 1 != 0)
    if wrong.any():
        raise UserError(f"{file}: {column.name} is '{column[wrong].iloc[0]}', but a whole number is published there")
    return numbers.astype(np.int64)


def published(
    frame: pd.DataFrame, root: Path, dataset: str, source: str, rule: str, split_seed: int, notes: Sequence[str] = ()
) -> Split:
    """The split of a published list.

    Args:
        frame: path, label (any numbers or names, in an order that counts), class_name, the published roles, and what else
            is known of an image.
        root: what `path` is relative to.
        dataset: its name, for sentences.
        source: the list that the frame was read from, for sentences.
        rule: `zero_shot`: the published roles. `half_per_class`: half of each class's images trains.
        split_seed: of `half_per_class`.
        notes: what a reader should be told.

    Returns:
        The split, labels 0-based and without gaps, with the files' sizes.

    Raises:
        UserError: the rule is not known, an image is listed twice, or images that are listed are not there.
    """
    if rule not in RULES:
        raise UserError(f"dataset.split is '{rule}'{suggest(rule, RULES)}")
    repeated = frame["path"][frame["path"].duplicated()]
    if len(repeated):
        raise UserError(f"dataset/{dataset}: {source} lists {len(repeated):,} images twice, such as {repeated.iloc[0]}")
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
    if rule == "half_per_class":
        frame = frame.assign(**half_per_class(frame, split_seed))
        notes = [*notes, HALF_PER_CLASS]
    leading = ["path", "label", "class_name", *ROLES]
    frame = frame[leading + [name for name in frame.columns if name not in leading]].reset_index(drop=True)
    return Split(frame, root, tuple(notes))
