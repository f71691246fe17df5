"""Whether a data set's files are what its split says: readable, and how often the same."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from dmlbench.data.images import read_image
from dmlbench.data.split import ROLES, Split
from dmlbench.errors import UserError
from dmlbench.rows import write_text


def unreadable(split: Split) -> dict[int, str]:
    """Decode every image.

    Returns:
        Id to reason of those that cannot be read.
    """
    reasons = {}
    paths = split.paths()
    for image_id, path in enumerate(tqdm(paths, disable=None, unit="image", desc="check images", leave=False)):
        try:
            read_image(path)
        except UserError as error:
            reasons[image_id] = str(error)
    return reasons


def readable(split: Split, on_unreadable: str, stamps: Path) -> Split:
    """The split, once each of its images is known to be readable.

    Args:
        split: what to check.
        on_unreadable: `refuse` or `skip` images that cannot be read.
        stamps: the folder where a check that found nothing is remembered, by the split's digest.

    Raises:
        UserError: an image cannot be read, and it is to be refused.
    """
    stamp = stamps / f"{split.digest}.json"
    if stamp.is_file():
        return split
    reasons = unreadable(split)
    if not reasons:
        write_text(stamp, json.dumps({"images": len(split.frame)}) + "\n")
        return split
    first = next(iter(reasons.values()))
    if on_unreadable != "skip":
        more = f" ({len(reasons) - 1:,} more like it)" if len(reasons) > 1 else ""
        raise UserError(first + more)
    note = f"{len(reasons):,} images that cannot be read are left out"
    return replace(split.without(np.array(list(reasons))), notes=(*split.notes, note))


def report(label: str, split: Split) -> Iterator[str]:
    """What `dmlbench data check` prints: counts, small classes, byte-identical images, a line each.

    Args:
        label: the data set's name in print.
        split: readable throughout.
    """
    yield f"{label}: {len(split.frame):,} images, split digest {split.digest}, under {split.root}"
    for role in ROLES:
        if split.frame[role].any():
            yield f"{role:9} {_counted(split.frame.loc[split.frame[role], 'label'])}"
    alone = split.n_without_match
    if alone:
        yield f"single    {alone:,} queries have no other image of their class in the gallery; they are excluded, and counted"
    if split.n_skipped:
        yield f"skipped   {split.n_skipped:,} images that cannot be read"
    yield f"copies    {_duplicates_said(split)}"
    for note in split.notes:
        yield f"note      {note}"


def _counted(labels: pd.Series) -> str:
    sizes = labels.value_counts()
    spread = f"{sizes.min():,} to {sizes.max():,} a class, median {sizes.median():g}"
    return f"{len(labels):,} images of {len(sizes):,} classes ({spread})"


def duplicates(split: Split) -> list[list[int]]:
    """Groups of byte-identical files, each as its images' ids; only files of equal size are read."""
    paths = split.paths()
    by_size, by_digest = defaultdict(list), defaultdict(list)
    for image_id, path in enumerate(paths):
        by_size[path.stat().st_size].append(image_id)
    alike = [image_id for ids in by_size.values() if len(ids) > 1 for image_id in ids]
    for image_id in tqdm(alike, disable=None, unit="image", desc="compare", leave=False):
        by_digest[hashlib.sha256(paths[image_id].read_bytes()).digest()].append(image_id)
    return [ids for ids in by_digest.values() if len(ids) > 1]


def _duplicates_said(split: Split) -> str:
    groups = duplicates(split)
    if not groups:
        return "no two images are byte-identical"
    frame = split.frame
    classes = sum(frame.loc[ids, "label"].nunique() > 1 for ids in groups)
    sides = sum(frame.loc[ids, "train"].nunique() > 1 for ids in groups)
    first = " = ".join(frame.loc[groups[0][:2], "path"])
    return (
        f"{sum(map(len, groups)):,} images in {len(groups):,} groups are byte-identical, {classes:,} across classes and "
        f"{sides:,} across training and test, such as {first}"
    )
