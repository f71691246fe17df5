"""CUB-200-2011, in the layout of its published archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.datasets.annotation_files import find_directory, make_split, read_list, to_integers
from dmlbench.data.split import BOX, Split
from dmlbench.data.split_rules import train_test_roles
from dmlbench.errors import UserError

LAST_TRAINING_CLASS = 100
NIGHTJARS = ("Chuck_will_Widow", "Whip_poor_Will")


def cub(root: str, split: str = "zero_shot", split_seed: int = 0, attributes: bool = False) -> Split:
    """Read CUB-200-2011: 200 bird species, each image with a box. Classes 1-100 are training classes, 101-200 test classes.

    Args:
        root: The unpacked archive, or a directory that contains it: `images/` and the files `images.txt`,
            `image_class_labels.txt` and `bounding_boxes.txt`. Files that are not listed, such as `._*`, are ignored.
        split: `zero_shot`, or a rule of `split_rules`: `half_per_class`, `random`, `random_classes`, `random_groups`.
        split_seed: Seed of all splits except `zero_shot`.
        attributes: Whether to read the 312 binary attributes of each image, as columns `attribute_*`.

    Returns:
        The split. Its root is the directory of `images.txt`. Its column `group` is the type of bird; see `bird_type`.

    Raises:
        UserError: The directory is not this data set (CUB-200 of 2010, for example), images are missing, or its files
            contradict each other.

    Source:
        Wah et al., The Caltech-UCSD Birds-200-2011 dataset, Caltech CNS-TR-2011-001. Split: Oh Song et al., CVPR 2016,
        arXiv:1511.06452.
    """
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
    if attributes:
        frame = frame.join(_read_attributes(directory, images.index))
    return make_split(frame, directory, "cub", str(directory / "images.txt"), split, split_seed, "bird type")


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


def _read_attributes(directory: Path, image_ids: pd.Index) -> pd.DataFrame:
    """Read the binary attributes of each image, int8, one column per attribute."""
    names = next((file for file in (directory / "attributes.txt", directory.parent / "attributes.txt") if file.is_file()), None)
    if names is None:
        raise UserError(
            f"dataset/cub: attributes.txt is neither in {directory} nor in its parent; the published archive contains it"
        )
    columns = ["attribute_" + name for name in read_list(names, ("id", "name"))["name"]]
    file = directory / "attributes" / "image_attribute_labels.txt"
    present = np.full((len(image_ids), len(columns)), -1, dtype=np.int8)
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                # Fields: image, attribute, present, certainty, seconds. Some published lines have meaningless extra fields.
                image_id, attribute, value, *_ = line.split()
                present[row_of[image_id], int(attribute) - 1] = int(value)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"dataset/cub: {file} cannot be read as the published list of attributes: {error}") from None
    if (present < 0).any():
        raise UserError(f"dataset/cub: {file} has no value for {int((present < 0).sum()):,} attributes of images")
    return pd.DataFrame(present, columns=columns, index=image_ids)
