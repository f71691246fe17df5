"""Cars-196, from either form of its annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dmlbench.data.datasets.annotation_files import folder_with, published
from dmlbench.data.split import Split
from dmlbench.data.split_rules import two_sided
from dmlbench.errors import UserError

LAST_TRAINING_CLASS = 98
MERGED = "cars_annos.mat"
TRAIN, TEST = "cars_train_annos.mat", "cars_test_annos_withlabels.mat"


def cars(root: str, split: str = "zero_shot", split_seed: int = 0) -> Split:
    """Cars of 196 models, each with a box; classes 1-98 train, 99-196 are query and gallery.

    Images are found by the names that the annotations give them, never by their order: an image that was renamed is
    missing, and a box that reaches beyond its image tells that names were given anew.

    Args:
        root: a folder that holds `cars_annos.mat` and `car_ims/`; or the two lists of the devkit, `cars_train_annos.mat` and
            `cars_test_annos_withlabels.mat`, with `cars_train/` and `cars_test/`. Where both are complete, the first is taken.
        split: `zero_shot`, or `half_per_class`.
        split_seed: of `half_per_class`.

    Returns:
        The split.

    Raises:
        UserError: the folder is not this data set, or its images have other names than its annotations.

    Source:
        Krause et al., 3D object representations for fine-grained categorization, 3dRR 2013. Split: Oh Song et al., CVPR 2016,
        arXiv:1511.06452.
    """
    form = MERGED if _has(root, MERGED) else TRAIN
    place = folder_with(root, form, "cars")
    top = place if form == MERGED else _top(place)
    lines = _merged(place) if form == MERGED else _devkit(place, top)
    if form == MERGED and not (top / lines["path"].iloc[0]).is_file() and (top / "cars_train").is_dir() and _has(root, TRAIN):
        place = folder_with(root, form := TRAIN, "cars")
        lines = _devkit(place, top := _top(place))
    names = _class_names(root, place)
    frame = lines.assign(
        class_name=[names.get(number, str(number)) for number in lines["label"]],
        **two_sided(lines["label"] <= LAST_TRAINING_CLASS),
    )
    return published(frame, top, "cars", str(place / form), split, split_seed)


def _has(root: str, name: str) -> bool:
    return any(next(Path(root).glob(pattern), None) for pattern in (name, f"*/{name}", f"*/*/{name}"))


def _top(devkit: Path) -> Path:
    """The folder of the images of the devkit's form: its own, or the one above."""
    return next((place for place in (devkit, devkit.parent) if (place / "cars_train").is_dir()), devkit.parent)


def _merged(place: Path) -> pd.DataFrame:
    """`cars_annos.mat`: all images, each with its path."""
    lines = _annotations(place / MERGED, "relative_im_path")
    return lines.rename(columns={"relative_im_path": "path"})


def _devkit(place: Path, top: Path) -> pd.DataFrame:
    """The devkit's two lists: names within `cars_train/` and `cars_test/`."""
    if not (place / TEST).is_file() and not (top / TEST).is_file():
        raise UserError(
            f"dataset/cars: {TEST} is not beside {place / TRAIN}; the devkit's own cars_test_annos.mat tells no class, "
            "so the test images cannot be labelled without it"
        )
    test = place / TEST if (place / TEST).is_file() else top / TEST
    parts = []
    for file, folder in ((place / TRAIN, "cars_train"), (test, "cars_test")):
        nested = f"{folder}/" * (2 if (top / folder / folder).is_dir() else 1)
        lines = _annotations(file, "fname")
        parts.append(lines.assign(path=nested + lines.pop("fname")))
    return pd.concat(parts, ignore_index=True)


def _annotations(file: Path, name: str) -> pd.DataFrame:
    """A MATLAB list of annotations: the image's name, its class from 1 on, and its box."""
    entries = _matlab(file, "annotations")
    needed = (name, "class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    lacking = [field for field in needed if field not in (entries.dtype.names or ())]
    if lacking:
        raise UserError(f"dataset/cars: {file} has no {' and no '.join(lacking)}; it is not the published list")
    values = {field: [entry.item() for entry in entries[field].ravel()] for field in needed}
    x1, y1, x2, y2 = (pd.Series(values[field], dtype=float) for field in needed[2:])
    return pd.DataFrame(
        {
            name: pd.Series(values[name], dtype=str),
            "label": pd.Series(values["class"], dtype="int64"),
            # MATLAB counts pixels from 1, and both corners belong to the box
            "x": x1 - 1,
            "y": y1 - 1,
            "width": x2 - x1 + 1,
            "height": y2 - y1 + 1,
        }
    )


def _class_names(root: str, place: Path) -> dict[int, str]:
    """Class number to name, where a file tells it."""
    files: Sequence[Path] = [place / MERGED, place / "cars_meta.mat", *sorted(Path(root).glob("*/cars_meta.mat"))]
    for file in files:
        if file.is_file():
            try:
                names = _matlab(file, "class_names")
            except UserError:
                continue
            return {number: name.item() for number, name in enumerate(names.ravel(), start=1)}
    return {}


def _matlab(file: Path, variable: str) -> Any:
    from scipy.io import loadmat  # half a second to import, and no other data set needs it

    try:
        return loadmat(str(file))[variable]
    except KeyError:
        raise UserError(f"dataset/cars: {file} has no variable '{variable}'; it is not the published file") from None
    except Exception as error:  # scipy's reader raises anything on a file that is none
        raise UserError(f"dataset/cars: {file} cannot be read as a MATLAB file: {str(error).splitlines()[0]}") from None
