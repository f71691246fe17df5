"""In-Shop Clothes Retrieval of DeepFashion, in its published layout. Query and gallery are different images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.datasets.annotation_files import find_directory, make_split, read_list
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.errors import UserError, suggest

PARTITION = "list_eval_partition.txt"
IMAGES = ("img", "img_highres")


def inshop(root: str, split: str = "zero_shot", split_seed: int = 0, images: str = "img", attributes: bool = False) -> Split:
    """Read In-Shop: clothes of an online shop, one class per item, with the published train, query and gallery images.

    Args:
        root: Directory with `Eval/list_eval_partition.txt` (or with this file itself), and with the images in `img/` or
            `Img/img/`. If `Anno/list_bbox_inshop.txt` exists, it provides the boxes.
        split: `zero_shot`: the published roles. Others: see `split_rules`; in these, every test image is query and
            gallery.
        split_seed: Seed of all splits except `zero_shot`.
        images: `img` (256 px, the usual choice) or `img_highres`. Results on the two are not comparable.
        attributes: Whether to read the 463 binary attributes of each item, as columns `attribute_*`.

    Returns:
        The split. Its column `group` is the category in the path of the item's first image, such as `WOMEN/Dresses`.

    Raises:
        UserError: The directory is not this data set, or images are missing.

    Source:
        Liu et al., DeepFashion, CVPR 2016.
    """
    if images not in IMAGES:
        raise UserError(f"dataset.make.images is '{images}'{suggest(images, IMAGES)}")
    file = _find_partition(root)
    directory = file.parent.parent if file.parent.name == "Eval" else file.parent
    partition = read_list(file, ("path", "item_id", "role"), skip=2)
    unknown = sorted(set(partition["role"]) - {"train", "query", "gallery"})
    if unknown:
        raise UserError(f"{file}: the status '{unknown[0]}' is not known; it must be train, query or gallery")
    paths = partition["path"].str.replace(r"^(img|img_highres)/", f"{images}/", regex=True)
    prefix = next((name for name in ("", "Img/") if (directory / f"{name}{images}").is_dir()), "")
    frame = pd.DataFrame({"path": prefix + paths, "label": partition["item_id"], "class_name": partition["item_id"]})
    frame = frame.assign(**{role: partition["role"] == role for role in ROLES})
    category = partition["path"].str.split("/").str[1:-2].str.join("/").groupby(partition["item_id"]).transform("first")
    has_categories = bool((category != "").all())
    if has_categories:
        frame["group"] = category
    boxes = _find_annotation(directory, "list_bbox_inshop.txt")
    if boxes is not None and images == "img":  # the boxes are in pixels of the small images
        frame = frame.join(_read_boxes(boxes, partition["path"]))
    if attributes:
        frame = frame.join(_read_attributes(directory, partition["item_id"]))
    return make_split(frame, directory, "inshop", str(file), split, split_seed, "category" if has_categories else None)


def _find_partition(root: str) -> Path:
    try:
        return find_directory(root, f"Eval/{PARTITION}", "inshop") / "Eval" / PARTITION
    except UserError:
        return find_directory(root, PARTITION, "inshop") / PARTITION


def _find_annotation(directory: Path, name: str) -> Path | None:
    paths = (directory / folder / name for folder in ("Anno", "Anno/attributes", "."))
    return next((path for path in paths if path.is_file()), None)


def _read_boxes(file: Path, paths: pd.Series) -> pd.DataFrame:
    """Read the box of each image, and convert it from two corners to one corner and a size."""
    frame = read_list(file, ("path", "clothes", "pose", "x_1", "y_1", "x_2", "y_2"), skip=2).set_index("path")
    absent = ~paths.isin(frame.index)
    if absent.any() or not frame.index.is_unique:
        raise UserError(f"{file} and {PARTITION} list different images: images without a box: {int(absent.sum()):,}")
    try:
        corners = frame.loc[paths, ["x_1", "y_1", "x_2", "y_2"]].astype(float).to_numpy()
    except ValueError as error:
        raise UserError(f"{file}: a box does not consist of four numbers ({error})") from None
    return pd.DataFrame(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), columns=list(BOX))


def _read_attributes(directory: Path, items: pd.Series) -> pd.DataFrame:
    """Return the attributes of the item of each image, int8: 1 if it has the attribute, otherwise 0."""
    names, values = (_find_annotation(directory, name) for name in ("list_attr_cloth.txt", "list_attr_items.txt"))
    if names is None or values is None:
        raise UserError(f"dataset/inshop: list_attr_cloth.txt or list_attr_items.txt is not under {directory / 'Anno'}")
    columns = ["attribute_" + " ".join(line.split()) for line in names.read_text(encoding="utf-8").splitlines()[2:] if line]
    by_item = {}
    for line in values.read_text(encoding="utf-8").splitlines()[2:]:
        item, *present = line.split()
        if len(present) != len(columns):
            raise UserError(f"{values}: {item} has {len(present)} attributes, but {names.name} lists {len(columns)}")
        by_item[item] = np.array(present, dtype=np.int8) > 0
    missing = sorted(set(items) - set(by_item))
    if missing:
        raise UserError(f"{values} does not list {len(missing):,} of the items, such as {missing[0]}")
    return pd.DataFrame(np.stack([by_item[item] for item in items]).astype(np.int8), columns=columns)
