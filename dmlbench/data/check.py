"""Check the files of a data set: find unreadable images, boxes that do not match, and duplicates."""

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

# Annotators are not exact to the pixel: boxes may extend beyond their image by so much, and a small share of them by more.
BOX_MARGIN_PX = 2
MAX_SHARE_OF_LARGE_BOXES = 0.01


def find_unreadable(split: Split) -> dict[int, str]:
    """Decode every image, and compare its size with its box.

    Args:
        split: Data set.

    Returns:
        Id to error message of each image that cannot be read.

    Raises:
        UserError: More than 1 % of the boxes extend beyond their images, so boxes and images do not belong together.
    """
    errors, too_large = {}, []
    paths = split.paths()
    boxes = split.frame[list(BOX)].to_numpy() if set(BOX) <= set(split.frame.columns) else None
    for image_id, path in enumerate(tqdm(paths, disable=None, unit="image", desc="check images", leave=False)):
        try:
            height, width = read_image(path).shape[1:]
        except UserError as error:
            errors[image_id] = str(error)
            continue
        if boxes is not None:
            x, y, box_width, box_height = boxes[image_id]
            if x + box_width > width + BOX_MARGIN_PX or y + box_height > height + BOX_MARGIN_PX:
                too_large.append(path)
    if len(too_large) > MAX_SHARE_OF_LARGE_BOXES * len(paths):
        raise UserError(
            f"boxes and images do not match: {len(too_large):,} of {len(paths):,} boxes extend beyond their image, such as "
            f"that of {too_large[0]}; the images may have been renamed or resized"
        )
    return errors


def without_unreadable(split: Split, on_unreadable: str, stamps: Path) -> Split:
    """Return a split whose images can all be read.

    Args:
        split: Data set to check.
        on_unreadable: `refuse` raises if an image cannot be read, `skip` leaves such images out.
        stamps: Directory that records successful checks, by the digest of the split. A recorded split is not checked again.

    Raises:
        UserError: An image cannot be read and `on_unreadable` is not `skip`, or boxes and images do not match.
    """
    stamp = stamps / f"{split.digest}.json"
    if stamp.is_file():
        return split
    errors = find_unreadable(split)
    if not errors:
        atomic_write(stamp, json.dumps({"images": len(split.frame)}) + "\n")
        return split
    first = next(iter(errors.values()))
    if on_unreadable != "skip":
        total = f" (unreadable images in total: {len(errors):,})" if len(errors) > 1 else ""
        raise UserError(first + total)
    note = f"unreadable images that are skipped: {len(errors):,}"
    return replace(split.without(np.array(list(errors))), notes=(*split.notes, note))


def report(label: str, split: Split) -> Iterator[str]:
    """Return what `dmlbench data check` prints: counts, shared classes, queries without positives, and duplicates.

    Args:
        label: Name of the data set in print.
        split: Data set whose images can all be read.

    Yields:
        One line each.
    """
    yield f"{label}: {len(split.frame):,} images, split digest {split.digest}, under {split.root}"
    for role in ROLES:
        if split.frame[role].any():
            yield f"{role:10} {_describe_sizes(split.frame.loc[split.frame[role], 'label'])}"
    yield f"classes    {_describe_overlap(split)}"
    if split.n_queries_without_positives:
        yield (
            "positives  queries without a positive (another image of their class in the gallery), which metrics exclude: "
            f"{split.n_queries_without_positives:,}"
        )
    yield f"duplicates {_describe_duplicates(split)}"
    for note in split.notes:
        yield f"note       {note}"


def _describe_sizes(labels: pd.Series) -> str:
    """Return the number of images and classes, and how many images each class has."""
    sizes = labels.value_counts()
    lowest, highest = sizes.min(), sizes.max()
    per_class = f"{lowest:,}" if lowest == highest else f"{lowest:,} to {highest:,}, median {sizes.median():g},"
    return f"{len(labels):,} images of {len(sizes):,} classes ({per_class} per class)"


def _describe_overlap(split: Split) -> str:
    """Return whether training and test share classes."""
    frame = split.frame
    train = set(frame.loc[frame["train"] | frame["val"], "label"])
    test = set(frame.loc[frame["query"] | frame["gallery"], "label"])
    if train & test:
        return f"training and test share {len(train & test):,} classes"
    names = frame.drop_duplicates("label").set_index("label")["class_name"]
    ranges = [f"{names[min(labels)]} to {names[max(labels)]}" for labels in (train, test)]
    return f"training and test share no class: {ranges[0]} | {ranges[1]}"


def find_duplicates(split: Split) -> list[list[int]]:
    """Find groups of byte-identical files. Only files of equal size are read.

    Args:
        split: Data set.

    Returns:
        The ids of the images of each group.
    """
    paths = split.paths()
    by_size, by_digest = defaultdict(list), defaultdict(list)
    for image_id, path in enumerate(paths):
        by_size[path.stat().st_size].append(image_id)
    candidates = [image_id for ids in by_size.values() if len(ids) > 1 for image_id in ids]
    for image_id in tqdm(candidates, disable=None, unit="image", desc="find duplicates", leave=False):
        by_digest[hashlib.sha256(paths[image_id].read_bytes()).digest()].append(image_id)
    return [ids for ids in by_digest.values() if len(ids) > 1]


def _describe_duplicates(split: Split) -> str:
    groups = find_duplicates(split)
    if not groups:
        return "no two images are byte-identical"
    frame = split.frame
    across_classes = sum(frame.loc[ids, "label"].nunique() > 1 for ids in groups)
    across_roles = sum(frame.loc[ids, "train"].nunique() > 1 for ids in groups)
    example = " = ".join(frame.loc[groups[0][:2], "path"])
    return (
        f"{sum(map(len, groups)):,} byte-identical images, such as {example}; groups of them: {len(groups):,}; groups across "
        f"classes: {across_classes:,}; groups across training and test: {across_roles:,}"
    )
