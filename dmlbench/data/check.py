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
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.errors import UserError
from dmlbench.system.atomic_write import atomic_write

# Boxes may reach this far beyond their image, for annotators' pixels are not exact, and this share of them farther.
BOX_MARGIN_PX = 2
BOXES_BEYOND = 0.01


def unreadable(split: Split) -> dict[int, str]:
    """Decode every image, and hold its box against it.

    Returns:
        Id to reason of those that cannot be read.

    Raises:
        UserError: so many boxes reach beyond their images that boxes and images do not belong together.
    """
    reasons, beyond = {}, []
    paths = split.paths()
    boxes = split.frame[list(BOX)].to_numpy() if set(BOX) <= set(split.frame.columns) else None
    for image_id, path in enumerate(tqdm(paths, disable=None, unit="image", desc="check images", leave=False)):
        try:
            height, width = read_image(path).shape[1:]
        except UserError as error:
            reasons[image_id] = str(error)
            continue
        if boxes is not None:
            x, y, box_width, box_height = boxes[image_id]
            if x + box_width > width + BOX_MARGIN_PX or y + box_height > height + BOX_MARGIN_PX:
                beyond.append(path)
    if len(beyond) > BOXES_BEYOND * len(paths):
        raise UserError(
            f"annotations and images disagree: {len(beyond):,} of {len(paths):,} boxes reach beyond their image, such as that "
            f"of {beyond[0]}; were the images renamed or resized?"
        )
    return reasons


def without_unreadable(split: Split, on_unreadable: str, stamps: Path) -> Split:
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
        atomic_write(stamp, json.dumps({"images": len(split.frame)}) + "\n")
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
    yield f"classes   {_overlap_said(split)}"
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


def _overlap_said(split: Split) -> str:
    """Whether the unseen classes are unseen."""
    frame = split.frame
    train = set(frame.loc[frame["train"] | frame["val"], "label"])
    test = set(frame.loc[frame["query"] | frame["gallery"], "label"])
    if train & test:
        return f"{len(train & test):,} classes are on both sides, training and test"
    names = frame.drop_duplicates("label").set_index("label")["class_name"]
    sides = [f"{names[min(side)]} to {names[max(side)]}" for side in (train, test)]
    return f"training and test share none: {sides[0]} | {sides[1]}"


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
