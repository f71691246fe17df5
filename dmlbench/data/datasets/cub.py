"""CUB-200-2011, as its authors pack it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.datasets.annotation_files import folder_with, listing, published, whole_numbers
from dmlbench.data.split import BOX, Split
from dmlbench.data.split_rules import two_sided
from dmlbench.errors import UserError

LAST_TRAINING_CLASS = 100
ATTRIBUTES = 312


def cub(root: str, split: str = "zero_shot", split_seed: int = 0, attributes: bool = False) -> Split:
    """Birds of 200 species, each with a box; classes 1-100 train, 101-200 are query and gallery.

    Args:
        root: the unpacked archive, or a folder that holds it: `images/` and its lists `images.txt`,
            `image_class_labels.txt` and `bounding_boxes.txt`. Files that are not listed, `._*` among them, are ignored.
        split: `zero_shot`, or `half_per_class`.
        split_seed: of `half_per_class`.
        attributes: read the 312 binary attributes of each image too, as columns `attribute_*`.

    Returns:
        The split, its paths relative to the folder of `images.txt`.

    Raises:
        UserError: the folder is not this data set: CUB-200 of 2010, images missing, lists that disagree.

    Source:
        Wah et al., The Caltech-UCSD Birds-200-2011 dataset, Caltech CNS-TR-2011-001. Split: Oh Song et al., CVPR 2016,
        arXiv:1511.06452.
    """
    _refuse_2010(root)
    place = folder_with(root, "images.txt", "cub")
    images = listing(place / "images.txt", ("image_id", "path")).set_index("image_id")
    classes = _of(place / "image_class_labels.txt", ("image_id", "class_id"), images.index)
    label = whole_numbers(place / "image_class_labels.txt", classes["class_id"])
    boxes = _of(place / "bounding_boxes.txt", ("image_id", *BOX), images.index).astype(float)
    class_name = images["path"].str.split("/").str[0]
    _refuse_disagreement(place, images["path"], class_name, label)
    frame = pd.DataFrame({"path": "images/" + images["path"], "label": label, "class_name": class_name})
    frame = frame.assign(**two_sided(label <= LAST_TRAINING_CLASS)).join(boxes)
    if attributes:
        frame = frame.join(_attributes(place, images.index))
    return published(frame, place, "cub", str(place / "images.txt"), split, split_seed)


def _of(file: Path, columns: tuple[str, ...], image_ids: pd.Index) -> pd.DataFrame:
    """A list by image id, in the order of `images.txt`."""
    lines = listing(file, columns).set_index("image_id")
    if not lines.index.is_unique or set(lines.index) != set(image_ids):
        raise UserError(
            f"dataset/cub: {file} has {len(lines):,} lines, images.txt {len(image_ids):,}; they must name the same images"
        )
    return lines.loc[image_ids]


def _refuse_2010(root: str) -> None:
    place = Path(root)
    for folder in (place, *(sorted(place.iterdir()) if place.is_dir() else [])):
        if (folder / "annotations-mat").is_dir() or folder.name == "CUB_200_2010" or (folder / "lists" / "files.txt").is_file():
            raise UserError(
                f"dataset/cub: {folder} is CUB-200 of 2010 (6,033 images); the benchmark is CUB-200-2011 (11,788 images); "
                "get it with `dmlbench data prepare cub`"
            )


def _refuse_disagreement(place: Path, paths: pd.Series, class_name: pd.Series, label: pd.Series) -> None:
    """Each class's folder is numbered like the class."""
    number = pd.to_numeric(class_name.str.split(".").str[0], errors="coerce")
    wrong = (number != label).to_numpy()
    if wrong.any():
        first = int(wrong.argmax())
        raise UserError(
            f"dataset/cub: the lists under {place} disagree about {wrong.sum():,} of {len(paths):,} images, such as "
            f"{paths.iloc[first]}, which image_class_labels.txt puts into class {label.iloc[first]}"
        )


def _attributes(place: Path, image_ids: pd.Index) -> pd.DataFrame:
    """The binary attributes of each image, int8, a column each."""
    names = next((file for file in (place / "attributes.txt", place.parent / "attributes.txt") if file.is_file()), None)
    if names is None:
        raise UserError(
            f"dataset/cub: attributes.txt is neither in {place} nor beside it; the published archive has it at its top"
        )
    columns = ["attribute_" + name for name in listing(names, ("id", "name"))["name"]]
    file = place / "attributes" / "image_attribute_labels.txt"
    present = np.full((len(image_ids), len(columns)), -1, dtype=np.int8)
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                # image, attribute, present, certainty, seconds; some published lines carry fields of no meaning after these
                image_id, attribute, value, *_ = line.split()
                present[row_of[image_id], int(attribute) - 1] = int(value)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"dataset/cub: {file} cannot be read as the published list of attributes: {error}") from None
    if (present < 0).any():
        raise UserError(f"dataset/cub: {file} leaves {int((present < 0).sum()):,} attributes of images unsaid")
    return pd.DataFrame(present, columns=columns, index=image_ids)
