"""Check the files of a data set: find unreadable images, boxes that do not match, and duplicates."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from dmlbench.config.schema import CLOSED_SET_RULES
from dmlbench.data.class_groups import overlap_note
from dmlbench.data.contents import UNREADABLE, hash_contents
from dmlbench.data.images import read_image
from dmlbench.data.near_equal import CELLS, find_near_equal, thumbnail
from dmlbench.data.split import BOX, Split
from dmlbench.errors import UserError
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.regular_files import read_json

VERSION = 2  # of the check; raised if it finds something else
# Annotators are not exact to the pixel: boxes may extend beyond their image by so much, and a small share of them by more.
BOX_MARGIN_PX = 2
MAX_SHARE_OF_LARGE_BOXES = 0.01
MOST_NAMES = 10  # of images that are printed; files list all of them


@dataclass(frozen=True)
class ImageCheck:
    """What decoding every image of a split has shown.

    Args:
        errors: Id to error message of each image that cannot be read.
        duplicates: Test image and training image that are equal, or nearly: a pair for each such test image.
    """

    errors: Mapping[int, str]
    duplicates: Sequence[tuple[int, int]]


def check_images(split: Split) -> ImageCheck:
    """Decode every image, compare its size with its box, and compare test images with training images.

    Args:
        split: Data set.

    Raises:
        UserError: More than 1 % of the boxes extend beyond their images, so boxes and images do not belong together.
    """
    errors, too_large = {}, []
    paths = split.paths()
    thumbnails = np.zeros((len(paths), CELLS * CELLS * 3), dtype=np.uint8)
    boxes = split.frame[list(BOX)].to_numpy() if set(BOX) <= set(split.frame.columns) else None
    for image_id, path in enumerate(tqdm(paths, disable=None, unit="image", desc="check images", leave=False)):
        try:
            image = read_image(path)
        except UserError as error:
            errors[image_id] = str(error)
            continue
        thumbnails[image_id] = thumbnail(image)
        if boxes is None:
            continue
        height, width = image.shape[1:]
        if problem := _box_problem(boxes[image_id], height, width):
            errors[image_id] = f"{path}: its box {problem}"
            continue
        x, y, box_width, box_height = boxes[image_id]
        if x + box_width > width + BOX_MARGIN_PX or y + box_height > height + BOX_MARGIN_PX:
            too_large.append(path)
    if len(too_large) > MAX_SHARE_OF_LARGE_BOXES * len(paths):
        raise UserError(
            f"boxes and images do not match: {len(too_large):,} of {len(paths):,} boxes extend beyond their image, such as "
            f"that of {too_large[0]}; the images may have been renamed or resized"
        )
    readable = ~np.isin(np.arange(len(paths)), list(errors))
    seen = (split.frame["train"] | split.frame["val"]).to_numpy()
    tested = (split.frame["query"] | split.frame["gallery"]).to_numpy() & ~seen
    duplicates = find_near_equal(thumbnails, np.flatnonzero(seen & readable), np.flatnonzero(tested & readable))
    return ImageCheck(errors, duplicates)


def _box_problem(box: np.ndarray, height: int, width: int) -> str | None:
    """Say what is wrong with a box of an image; None if the box is usable."""
    x, y, box_width, box_height = box
    name = f"({x:g}, {y:g}, {box_width:g}, {box_height:g})"
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        return f"{name} is outside the image of {width} x {height} pixels"
    return f"{name} has a side below one pixel" if min(box_width, box_height) < 1 else None


def readable_split(split: Split, rule: str | None, on_unreadable: str, data_dir: Path) -> Split:
    """Return a split whose images can all be read and are identified by their contents, with notes about what is unusual.

    A check of all images is remembered by their contents, which are hashed again if the status of a file changes.

    Args:
        split: Data set to check.
        rule: Split rule. Rules that use each class for training and for test are not noted again.
        on_unreadable: `refuse` raises if an image cannot be read, `skip` leaves such images out.
        data_dir: Directory of what is remembered, in `contents` and `checked`.

    Raises:
        UserError: An image cannot be read and `on_unreadable` is not `skip`, or boxes and images do not match.
    """
    split = hash_contents(split, data_dir / "contents").split
    verdict = data_dir / "checked" / f"{_check_digest(split)}.json"
    duplicates = _read_verdict(verdict)
    if duplicates is None:
        check = check_images(split)
        duplicates = [(split.frame["path"][test], split.frame["path"][train]) for test, train in check.duplicates]
        if check.errors:
            listing = _write_listing(split, check.errors, verdict.with_suffix(".unreadable.txt"))
            split = without_unreadable(split, check.errors, on_unreadable, listing)
        else:
            _remember(verdict, duplicates)
    split = replace(split, n_duplicates=len(duplicates))
    return replace(split, notes=(*split.notes, *_overlap_notes(split, rule, duplicates)))


def without_unreadable(split: Split, errors: Mapping[int, str], on_unreadable: str, listing: Path | None = None) -> Split:
    """Leave out images that cannot be read, or refuse the data set.

    Args:
        split: Data set.
        errors: Id to error message of each image that cannot be read.
        on_unreadable: `refuse` or `skip`.
        listing: File that lists the images.

    Raises:
        UserError: There is an error, and `on_unreadable` is not `skip`.
    """
    if not errors:
        return split
    where = f"; {listing} lists all" if listing else ""
    if on_unreadable != "skip":
        total = f" (unreadable images in total: {len(errors):,}{where})" if len(errors) > 1 else ""
        raise UserError(next(iter(errors.values())) + total)
    names = split.frame["path"].iloc[list(errors)[:MOST_NAMES]].tolist()
    more = f", and {len(errors) - len(names):,} more" if len(errors) > len(names) else ""
    note = f"unreadable images that are skipped: {len(errors):,} ({', '.join(names)}{more}{where})"
    return replace(split.without(np.array(list(errors))), notes=(*split.notes, note))


def _check_digest(split: Split) -> str:
    text = "\n".join([str(VERSION), PIL.__version__, split.digest, *split.frame["content"]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_verdict(file: Path) -> list[tuple[str, str]] | None:
    """Return the duplicates of a split whose images could all be read; None if it has not been checked."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return [(str(test), str(train)) for test, train in read_json(file)["duplicates"]]
    return None


def _remember(file: Path, duplicates: Sequence[tuple[str, str]]) -> None:
    with suppress(OSError):  # a read-only directory: the images are checked again the next time
        atomic_write(file, json.dumps({"duplicates": duplicates}) + "\n")


def _write_listing(split: Split, errors: Mapping[int, str], file: Path) -> Path | None:
    """Write the unreadable images, one per line with the reason; return the file, or None if it cannot be written."""
    with suppress(OSError):
        atomic_write(file, "".join(f"{split.frame['path'][image_id]}\t{error}\n" for image_id, error in errors.items()))
        return file
    return None


def _overlap_notes(split: Split, rule: str | None, duplicates: Sequence[tuple[str, str]]) -> Iterator[str]:
    shared = split.shared_classes
    if shared and rule not in CLOSED_SET_RULES:
        tested = split.facts["test_classes"]
        name = split.frame.loc[split.frame["label"] == shared[0], "class_name"].iloc[0]
        yield f"{len(shared):,} of {tested:,} test classes are training classes too, such as '{name}': they are not unseen"
    elif rule not in CLOSED_SET_RULES:
        yield from overlap_note(split.frame)
    if duplicates:
        test, train = duplicates[0]
        yield f"test images that equal a training image, or nearly: {len(duplicates):,}, such as {test} and {train}"


def find_duplicates(split: Split) -> list[list[int]]:
    """Find groups of byte-identical files.

    Args:
        split: Data set, with the contents of its images.

    Returns:
        The ids of the images of each group.
    """
    by_content = defaultdict(list)
    for image_id, content in enumerate(split.frame["content"]):
        if content != UNREADABLE:
            by_content[content].append(image_id)
    return [ids for ids in by_content.values() if len(ids) > 1]
