"""In-Shop Clothes Retrieval of DeepFashion, as its authors pack it: query and gallery are different images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.datasets.annotation_files import folder_with, listing, published
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.errors import UserError, suggest

PARTITION = "list_eval_partition.txt"
IMAGES = ("img", "img_highres")


def inshop(root: str, split: str = "zero_shot", split_seed: int = 0, images: str = "img", attributes: bool = False) -> Split:
    """Clothes of an online shop, a class an item; the published train, query and gallery.

    Args:
        root: the folder that holds `Eval/list_eval_partition.txt` (or that list itself), and the images as `img/...` there,
            or in `Img/`. `Anno/list_bbox_inshop.txt` gives boxes, where it is.
        split: `zero_shot`: the published roles. `half_per_class`: half of each item's images trains.
        split_seed: of `half_per_class`.
        images: `img` (256 px, what the field uses) or `img_highres`; numbers of the two are not comparable.
        attributes: read the 463 attributes of each item too, as columns `attribute_*`.

    Returns:
        The split.

    Raises:
        UserError: the folder is not this data set, or images are missing.

    Source:
        Liu et al., DeepFashion, CVPR 2016.
    """
    if images not in IMAGES:
        raise UserError(f"dataset.make.images is '{images}'{suggest(images, IMAGES)}")
    file = _found(root, PARTITION)
    place = file.parent.parent if file.parent.name == "Eval" else file.parent
    lines = listing(file, ("path", "item_id", "role"), skip=2)
    unknown = sorted(set(lines["role"]) - {"train", "query", "gallery"})
    if unknown:
        raise UserError(f"{file}: the status '{unknown[0]}' is not known; it is train, query or gallery")
    paths = _resolution(lines["path"], images)
    folder = next((name for name in ("", "Img/") if (place / f"{name}{images}").is_dir()), "")
    frame = pd.DataFrame({"path": folder + paths, "label": lines["item_id"], "class_name": lines["item_id"]})
    frame = frame.assign(**{role: lines["role"] == role for role in ROLES})
    boxes = _beside(place, "list_bbox_inshop.txt")
    if boxes is not None and images == "img":  # the boxes are in pixels of the small images
        frame = frame.join(_boxes(boxes, lines["path"]))
    if attributes:
        frame = frame.join(_attributes(place, lines["item_id"]))
    return published(frame, place, "inshop", str(file), split, split_seed)


def _found(root: str, name: str) -> Path:
    try:
        return folder_with(root, f"Eval/{name}", "inshop") / "Eval" / name
    except UserError:
        return folder_with(root, name, "inshop") / name


def _beside(place: Path, name: str) -> Path | None:
    places = ("Anno", "Anno/attributes", ".")
    return next((place / folder / name for folder in places if (place / folder / name).is_file()), None)


def _resolution(paths: pd.Series, images: str) -> pd.Series:
    return paths.str.replace(r"^(img|img_highres)/", f"{images}/", regex=True)


def _boxes(file: Path, paths: pd.Series) -> pd.DataFrame:
    """Boxes by image, from two corners to a corner and a size."""
    lines = listing(file, ("path", "clothes", "pose", "x_1", "y_1", "x_2", "y_2"), skip=2).set_index("path")
    absent = ~paths.isin(lines.index)
    if absent.any() or not lines.index.is_unique:
        raise UserError(f"{file} and the partition name different images: {int(absent.sum()):,} have no box")
    try:
        corners = lines.loc[paths, ["x_1", "y_1", "x_2", "y_2"]].astype(float).to_numpy()
    except ValueError as error:
        raise UserError(f"{file}: a box is no four numbers ({error})") from None
    return pd.DataFrame(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), columns=list(BOX))


def _attributes(place: Path, items: pd.Series) -> pd.DataFrame:
    """The attributes of each image's item, int8: 1 where it has one, else 0."""
    names, values = (_beside(place, name) for name in ("list_attr_cloth.txt", "list_attr_items.txt"))
    if names is None or values is None:
        raise UserError(f"dataset/inshop: list_attr_cloth.txt and list_attr_items.txt are not under {place / 'Anno'}")
    columns = ["attribute_" + " ".join(line.split()) for line in names.read_text(encoding="utf-8").splitlines()[2:] if line]
    of_item = {}
    for line in values.read_text(encoding="utf-8").splitlines()[2:]:
        item, *present = line.split()
        if len(present) != len(columns):
            raise UserError(f"{values}: {item} has {len(present)} attributes, {names.name} names {len(columns)}")
        of_item[item] = np.array(present, dtype=np.int8) > 0
    lacking = sorted(set(items) - set(of_item))
    if lacking:
        raise UserError(f"{values} has no line for {len(lacking):,} items, such as {lacking[0]}")
    return pd.DataFrame(np.stack([of_item[item] for item in items]).astype(np.int8), columns=columns)
