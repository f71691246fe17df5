"""Whether a data set's files are what its split says: readable, and how often the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dmlbench.data.images import read_image
from dmlbench.data.split import Split
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
