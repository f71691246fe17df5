"""In-Shop Clothes Retrieval of DeepFashion, in its published layout. Query and gallery are different images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.attributes import Attributes
from dmlbench.data.datasets.annotation_files import find_directory, make_split, read_lines, read_list
from dmlbench.data.datasets.published_attributes import PUBLISHED, WITHOUT, find_attributes, read_integers
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.errors import UserError, suggest

PARTITION = "list_eval_partition.txt"
IMAGES = ("img", "img_highres")
ATTRIBUTE_NAMES, ATTRIBUTE_VALUES = "list_attr_cloth.txt", "list_attr_items.txt"


def inshop(
    root: str,
    split: str = "zero_shot",
    split_seed: int = 0,
    images: str = "img",
    attributes: str | None = PUBLISHED,
) -> Split:
    """Read In-Shop: clothes of an online shop, one class per item, with the published train, query and gallery images.

    Args:
        root: Directory with `Eval/list_eval_partition.txt` (or with this file itself), and with the images in `img/` or
            `Img/img/`. If `Anno/list_bbox_inshop.txt` exists, it provides the boxes.
        split: `zero_shot`: the published roles. Others: see `split_rules`; in these, every test image is query and
            gallery.
        split_seed: Seed of all splits except `zero_shot`.
        images: `img` (256 px, the usual choice) or `img_highres`. Results on the two are not comparable.
        attributes: `published`: read the 463 binary attributes of each item, if `Anno/attributes/list_attr_cloth.txt` and
            `Anno/attributes/list_attr_items.txt` exist. None: read no attributes.

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
    present, hint = _read_attributes(directory, partition["item_id"], attributes)
    group_kind = "category" if has_categories else None
    made = make_split(frame, directory, "inshop", str(file), split, split_seed, group_kind)
    return replace(made, attributes=present, attributes_hint=hint)


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


def _read_attributes(directory: Path, items: pd.Series, wanted: str | None) -> tuple[Attributes | None, str]:
    """Return the attributes of the item of each image, and what the user can do if there are none."""
    found = {f"Anno/attributes/{name}": _find_annotation(directory, name) for name in (ATTRIBUTE_NAMES, ATTRIBUTE_VALUES)}
    files, hint = find_attributes(wanted, found)
    if files is None:
        return None, hint
    name_file, value_file = files.values()
    names = [" ".join(line.split()) for line in read_lines(name_file)[2:] if line.strip()]
    first = next(iter(read_lines(value_file)[2:]), "").split()
    if len(first) != 1 + len(names):
        raise UserError(
            f"{value_file}, line 3: {max(len(first) - 1, 0)} attributes, but {name_file.name} lists {len(names)}; {WITHOUT}"
        )
    table = read_integers(value_file, 1 + len(names), skip=2, first_is_text=True).set_index(0)
    if not table.index.is_unique:  # lines of an item that contradict each other give missing values
        lines = table.groupby(level=0)
        table = lines.min().where(lines.min() == lines.max(), 0)
    missing = sorted(set(items) - set(table.index))
    if missing:
        raise UserError(f"{value_file} does not list {len(missing):,} of the items, such as {missing[0]}")
    numbers = table.to_numpy()
    if (np.abs(numbers) > 1).any():
        item, attribute = np.argwhere(np.abs(numbers) > 1)[0]
        value = f"the attribute '{names[attribute]}' of {table.index[item]} is {numbers[item, attribute]}"
        raise UserError(f"{value_file}: {value}; it must be 1 (yes), -1 (no) or 0 (unknown)")
    values = np.where(numbers == 0, np.nan, numbers > 0).astype(np.float32)
    return Attributes(_numbered_if_repeated(names), values[table.index.get_indexer(pd.Index(items))]), hint


def _numbered_if_repeated(names: list[str]) -> tuple[str, ...]:
    """Return unique names: `striped`, `striped (2)`. The published list is not known to be free of repetitions."""
    return tuple(
        name if (count := names[: index + 1].count(name)) == 1 else f"{name} ({count})" for index, name in enumerate(names)
    )
