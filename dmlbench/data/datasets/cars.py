"""Cars-196, from either form of its annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dmlbench.data.datasets.annotation_files import find_directory, make_split
from dmlbench.data.split import Split
from dmlbench.data.split_rules import train_test_roles
from dmlbench.errors import UserError

LAST_TRAINING_CLASS = 98
TWO_WORD_MAKES = ("AM General", "Aston Martin", "Land Rover")  # of the 49 makes in the published list
MERGED = "cars_annos.mat"
TRAIN, TEST = "cars_train_annos.mat", "cars_test_annos_withlabels.mat"


def cars(root: str, split: str = "zero_shot", split_seed: int = 0) -> Split:
    """Read Cars-196: 196 car models, each image with a box. Classes 1-98 are training classes, 99-196 test classes.

    Images are found by their names in the annotations, never by their order. Renamed images therefore count as missing,
    and boxes that extend beyond their images show that names were reassigned.

    Args:
        root: Directory with `cars_annos.mat` and `car_ims/`; or with the two files of the devkit, `cars_train_annos.mat` and
            `cars_test_annos_withlabels.mat`, and `cars_train/` and `cars_test/`. If both are complete, the first is read.
        split: `zero_shot`, or a rule of `split_rules`: `half_per_class`, `random`, `random_classes`, `random_groups`.
        split_seed: Seed of all splits except `zero_shot`.

    Returns:
        The split. Its column `group` is the make, if an annotation file contains the names of the classes.

    Raises:
        UserError: The directory is not this data set, or its images have other names than in the annotations.

    Source:
        Krause et al., 3D object representations for fine-grained categorization, 3dRR 2013. Split: Oh Song et al., CVPR 2016,
        arXiv:1511.06452.
    """
    form = MERGED if _contains(root, MERGED) else TRAIN
    directory = find_directory(root, form, "cars")
    image_root = directory if form == MERGED else _image_root(directory)
    frame = _read_merged(directory) if form == MERGED else _read_devkit(directory, image_root)
    if form == MERGED and _has_devkit_images(image_root, frame["path"].iloc[0]) and _contains(root, TRAIN):
        directory = find_directory(root, form := TRAIN, "cars")
        frame = _read_devkit(directory, image_root := _image_root(directory))
    names = _class_names(root, directory)
    frame = frame.assign(
        class_name=[names.get(number, str(number)) for number in frame["label"]],
        **train_test_roles(frame["label"] <= LAST_TRAINING_CLASS),
    )
    if names:
        frame["group"] = frame["class_name"].map(make_of)
    return make_split(frame, image_root, "cars", str(directory / form), split, split_seed, "make" if names else None)


def make_of(class_name: str) -> str:
    """Return the make of a car: the first word of its name, or the first two if one of `TWO_WORD_MAKES` begins with it.

    Args:
        class_name: Name of the class.

    >>> make_of("Aston Martin V8 Vantage Coupe 2012"), make_of("Audi TTS Coupe 2012")
    ('Aston Martin', 'Audi')
    """
    return next((make for make in TWO_WORD_MAKES if class_name.startswith(f"{make} ")), class_name.split()[0])


def _contains(root: str, name: str) -> bool:
    return any(next(Path(root).glob(pattern), None) for pattern in (name, f"*/{name}", f"*/*/{name}"))


def _has_devkit_images(image_root: Path, merged_image: str) -> bool:
    """Return whether the images are those of the devkit, although `cars_annos.mat` exists."""
    return not (image_root / merged_image).is_file() and (image_root / "cars_train").is_dir()


def _image_root(devkit: Path) -> Path:
    """Return the directory of `cars_train/`: that of the devkit's files, or its parent."""
    return next((path for path in (devkit, devkit.parent) if (path / "cars_train").is_dir()), devkit.parent)


def _read_merged(directory: Path) -> pd.DataFrame:
    """Read `cars_annos.mat`, which lists all images with their paths."""
    frame = _read_annotations(directory / MERGED, "relative_im_path")
    return frame.rename(columns={"relative_im_path": "path"})


def _read_devkit(directory: Path, image_root: Path) -> pd.DataFrame:
    """Read the two files of the devkit, which list file names within `cars_train/` and `cars_test/`."""
    if not (directory / TEST).is_file() and not (image_root / TEST).is_file():
        raise UserError(
            f"dataset/cars: {TEST} is not next to {directory / TRAIN}; without it the test images have no labels, because "
            "cars_test_annos.mat of the devkit contains no classes"
        )
    test = directory / TEST if (directory / TEST).is_file() else image_root / TEST
    parts = []
    for file, folder in ((directory / TRAIN, "cars_train"), (test, "cars_test")):
        prefix = f"{folder}/" * (2 if (image_root / folder / folder).is_dir() else 1)
        frame = _read_annotations(file, "fname")
        parts.append(frame.assign(path=prefix + frame.pop("fname")))
    return pd.concat(parts, ignore_index=True)


def _read_annotations(file: Path, name: str) -> pd.DataFrame:
    """Read a MATLAB file of annotations: one row per image with its name, 1-based class and box.

    Args:
        file: The file.
        name: Field with the name of the image.
    """
    entries = _load_matlab(file, "annotations")
    fields = (name, "class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    missing = [field for field in fields if field not in (entries.dtype.names or ())]
    if missing:
        raise UserError(f"dataset/cars: {file} has no field {' or '.join(missing)}; it is not the published file")
    values = {field: [entry.item() for entry in entries[field].ravel()] for field in fields}
    x1, y1, x2, y2 = (pd.Series(values[field], dtype=float) for field in fields[2:])
    return pd.DataFrame(
        {
            name: pd.Series(values[name], dtype=str),
            "label": pd.Series(values["class"], dtype="int64"),
            # MATLAB counts pixels from 1, and the box includes both corners.
            "x": x1 - 1,
            "y": y1 - 1,
            "width": x2 - x1 + 1,
            "height": y2 - y1 + 1,
        }
    )


def _class_names(root: str, directory: Path) -> dict[int, str]:
    """Return class number to name, if a file contains the names."""
    files: Sequence[Path] = [directory / MERGED, directory / "cars_meta.mat", *sorted(Path(root).glob("*/cars_meta.mat"))]
    for file in files:
        if file.is_file():
            try:
                names = _load_matlab(file, "class_names")
            except UserError:
                continue
            return {number: name.item() for number, name in enumerate(names.ravel(), start=1)}
    return {}


def _load_matlab(file: Path, variable: str) -> Any:
    from scipy.io import loadmat  # imported here because it takes half a second, and no other data set needs it

    try:
        return loadmat(str(file))[variable]
    except KeyError:
        raise UserError(f"dataset/cars: {file} has no variable '{variable}'; it is not the published file") from None
    except Exception as error:  # scipy raises exceptions of any class on files that are not MATLAB files
        raise UserError(f"dataset/cars: {file} cannot be read as a MATLAB file: {str(error).splitlines()[0]}") from None
