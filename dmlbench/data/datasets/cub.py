"""CUB-200-2011, in the layout of its published archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.attributes import Attributes
from dmlbench.data.datasets.annotation_files import find_directory, make_split, read_list, to_integers
from dmlbench.data.datasets.published_attributes import PUBLISHED, WITHOUT, find_attributes, read_integers
from dmlbench.data.split import BOX, Split
from dmlbench.data.split_rules import train_test_roles
from dmlbench.errors import UserError

LAST_TRAINING_CLASS = 100
NIGHTJARS = ("Chuck_will_Widow", "Whip_poor_Will")
CERTAINTIES = ("not visible", "guessing", "probably", "definitely")  # of an annotator, from 1 to 4


def cub(
    root: str,
    split: str = "zero_shot",
    split_seed: int = 0,
    attributes: str | None = PUBLISHED,
    min_certainty: int = 2,
) -> Split:
    """Read CUB-200-2011: 200 bird species, each image with a box. Classes 1-100 are training classes, 101-200 test classes.

    Args:
        root: The unpacked archive, or a directory that contains it: `images/` and the files `images.txt`,
            `image_class_labels.txt` and `bounding_boxes.txt`. Files that are not listed, such as `._*`, are ignored.
        split: `zero_shot`, or a rule of `split_rules`: `half_per_class`, `random`, `random_classes`, `random_groups`.
        split_seed: Seed of all splits except `zero_shot`.
        attributes: `published`: read the 312 binary attributes of each image, if `attributes.txt` and
            `attributes/image_attribute_labels.txt` exist. None: read no attributes.
        min_certainty: Attributes whose annotator was less certain are missing values: 1 keeps all, 2 leaves out those that are
            not visible, 3 also guesses, 4 keeps definite ones.

    Returns:
        The split. Its root is the directory of `images.txt`. Its column `group` is the type of bird; see `bird_type`.

    Raises:
        UserError: The directory is not this data set (CUB-200 of 2010, for example), images are missing, its files
            contradict each other, or an argument is out of its range.

    Source:
        Wah et al., The Caltech-UCSD Birds-200-2011 dataset, Caltech CNS-TR-2011-001. Split: Oh Song et al., CVPR 2016,
        arXiv:1511.06452.
    """
    if min_certainty not in range(1, len(CERTAINTIES) + 1):
        levels = ", ".join(f"{level} {name}" for level, name in enumerate(CERTAINTIES, start=1))
        raise UserError(f"dataset.make.min_certainty is {min_certainty}; it must be 1 to {len(CERTAINTIES)} ({levels})")
    _refuse_cub_2010(root)
    directory = find_directory(root, "images.txt", "cub")
    images = read_list(directory / "images.txt", ("image_id", "path")).set_index("image_id")
    classes = _read_by_image(directory / "image_class_labels.txt", ("image_id", "class_id"), images.index)
    label = to_integers(directory / "image_class_labels.txt", classes["class_id"])
    boxes = _read_by_image(directory / "bounding_boxes.txt", ("image_id", *BOX), images.index).astype(float)
    class_name = images["path"].str.split("/").str[0]
    _refuse_contradictions(directory, images["path"], class_name, label)
    columns = {"path": "images/" + images["path"], "label": label, "class_name": class_name}
    frame = pd.DataFrame({**columns, "group": class_name.map(bird_type)})
    frame = frame.assign(**train_test_roles(label <= LAST_TRAINING_CLASS)).join(boxes)
    present, hint = _read_attributes(directory, images.index, attributes, min_certainty)
    made = make_split(frame, directory, "cub", str(directory / "images.txt"), split, split_seed, "bird type")
    return replace(made, attributes=present, attributes_hint=hint)


def bird_type(class_name: str) -> str:
    """Return the last word of the English name of a species, which usually names its family or genus.

    The two species whose names are their calls, chuck-will's-widow and whip-poor-will, are nightjars. Names are not taxonomy:
    grosbeaks belong to several families, and American redstart and ovenbird are wood warblers without the word.

    Args:
        class_name: Name of the class: a number, a full stop and the words of the name.

    >>> bird_type("001.Black_footed_Albatross"), bird_type("013.Bobolink"), bird_type("105.Whip_poor_Will")
    ('Albatross', 'Bobolink', 'Nightjar')
    """
    name = class_name.partition(".")[2]
    return "Nightjar" if name in NIGHTJARS else name.rpartition("_")[2]


def _read_by_image(file: Path, columns: tuple[str, ...], image_ids: pd.Index) -> pd.DataFrame:
    """Read an annotation file with one line per image, and return its rows in the order of `images.txt`."""
    frame = read_list(file, columns).set_index("image_id")
    if not frame.index.is_unique or set(frame.index) != set(image_ids):
        raise UserError(
            f"dataset/cub: {file} has {len(frame):,} lines, images.txt {len(image_ids):,}; they must list the same images"
        )
    return frame.loc[image_ids]


def _refuse_cub_2010(root: str) -> None:
    top = Path(root)
    for folder in (top, *(sorted(top.iterdir()) if top.is_dir() else [])):
        if (folder / "annotations-mat").is_dir() or folder.name == "CUB_200_2010" or (folder / "lists" / "files.txt").is_file():
            raise UserError(
                f"dataset/cub: {folder} is CUB-200 of 2010 (6,033 images); the benchmark is CUB-200-2011 (11,788 images); "
                "get it with `dmlbench data prepare cub`"
            )


def _refuse_contradictions(directory: Path, paths: pd.Series, class_name: pd.Series, label: pd.Series) -> None:
    """Check that the directory of each image has the number of its class."""
    number = pd.to_numeric(class_name.str.split(".").str[0], errors="coerce")
    wrong = (number != label).to_numpy()
    if wrong.any():
        first = int(wrong.argmax())
        raise UserError(
            f"dataset/cub: the files under {directory} contradict each other for {wrong.sum():,} of {len(paths):,} images, "
            f"such as {paths.iloc[first]}, which has class {label.iloc[first]} in image_class_labels.txt"
        )


def _read_attributes(
    directory: Path, image_ids: pd.Index, wanted: str | None, min_certainty: int
) -> tuple[Attributes | None, str]:
    """Return the binary attributes of each image, and what the user can do if there are none."""
    listed = (directory / "attributes.txt", directory.parent / "attributes.txt", directory / "attributes" / "attributes.txt")
    labels = directory / "attributes" / "image_attribute_labels.txt"
    found = {
        "attributes.txt": next((file for file in listed if file.is_file()), None),
        "attributes/image_attribute_labels.txt": labels if labels.is_file() else None,
    }
    files, hint = find_attributes(wanted, found)
    if files is None:
        return None, hint
    names = read_list(files["attributes.txt"], ("attribute_id", "name"))
    if names["attribute_id"].tolist() != [str(number) for number in range(1, len(names) + 1)]:
        raise UserError(f"dataset/cub: {files['attributes.txt']} does not number its attributes from 1 to {len(names):,}")
    values = _attribute_values(labels, to_integers(directory / "images.txt", image_ids.to_series()), len(names), min_certainty)
    return Attributes(tuple(names["name"]), values), hint


def _attribute_values(file: Path, image_ids: pd.Series, n_attributes: int, min_certainty: int) -> np.ndarray:
    """Return float32 `(N, K)`: 0 or 1, NaN where the annotator was less certain.

    Fields of a line: image, attribute, present, certainty, seconds. A few published lines have further fields.
    """
    table = read_integers(file, 4)
    image_id, attribute, present, certainty = (table[column].to_numpy() for column in table)
    row_of = np.full(image_ids.max() + 2, -1)
    row_of[image_ids] = np.arange(len(image_ids))
    row = row_of[np.clip(image_id, 0, len(row_of) - 1)]
    known = {
        "image_id": row >= 0,
        "attribute_id": (attribute >= 1) & (attribute <= n_attributes),
        "is_present": (present == 0) | (present == 1),
        "certainty_id": (certainty >= 1) & (certainty <= len(CERTAINTIES)),
    }
    for name, right in known.items():
        if not right.all():
            line = int((~right).argmax())
            fields = f"{image_id[line]} {attribute[line]} {present[line]} {certainty[line]}"
            raise UserError(f"dataset/cub: {file} has '{fields}', whose {name} is not known; {WITHOUT}")
    cell = row * n_attributes + attribute - 1
    counts = np.bincount(cell, minlength=len(image_ids) * n_attributes)
    for problem, number in (("no value", (counts == 0).sum()), ("several values", (counts > 1).sum())):
        if number:
            raise UserError(f"dataset/cub: {file} has {problem} for {number:,} attributes of images; {WITHOUT}")
    values = np.empty(len(counts), dtype=np.float32)
    values[cell] = np.where(certainty >= min_certainty, present, np.nan)
    return values.reshape(len(image_ids), n_attributes)
