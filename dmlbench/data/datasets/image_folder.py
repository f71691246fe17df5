"""Images of the user: a directory tree, with or without a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.config.requirements import require_directory
from dmlbench.data.datasets.folder_attributes import HINT, read_attributes
from dmlbench.data.datasets.manifest import COLUMNS, find_csv, read_manifest
from dmlbench.data.images import IMAGE_SUFFIXES, size_bytes
from dmlbench.data.split import ROLES, Split
from dmlbench.data.split_rules import DRAWN_RULES, draw_roles, first_half_of_classes, refuse_unused_seed
from dmlbench.errors import UserError, suggest

# Role in a manifest to the roles of the image in the split.
MANIFEST_ROLES = {
    "train": ("train",),
    "training": ("train",),
    "val": ("val",),
    "valid": ("val",),
    "validation": ("val",),
    "query": ("query",),
    "gallery": ("gallery",),
    "test": ("query", "gallery"),
    "testing": ("query", "gallery"),
}


def folder(
    root: str | None,
    manifest: str | None = None,
    split: str = "zero_shot",
    split_seed: int = 0,
    group: str | None = None,
    attributes: str | Sequence[str] | None = None,
) -> Split:
    """Read a directory tree `root/<class>/<image>`, or any tree with a CSV file that lists its images.

    Args:
        root: Directory of the images. Hidden files (including `._*` of macOS) and files that are not images are ignored.
        manifest: CSV file, as a path or relative to `root`. Its columns: path (relative to `root`) and label; optionally class
            name, role, group of the class, and box (x, y, width, height, or one column of four numbers). Other columns are
            ignored, unless `attributes` names them.
        split: `zero_shot`: the first half of the classes are training classes, the others test classes. Classes are ordered
            by label if all labels are numbers, otherwise by name, byte by byte. `half_per_class`: half of the images of each
            class are training images. `manifest`: the roles of the manifest; its `test` is query and gallery.
            `random`, `random_classes`, `random_groups`: random training classes; see `split_rules.draw_roles`.
        split_seed: Seed of `half_per_class`, in which each class has an independent random stream, and of random classes.
        group: Column of the manifest that contains the group of each class. None for the column `group`, if there is one.
        attributes: Binary attributes: a CSV file, as a path or relative to `root`, with the column path and one column of 0 and
            1 per attribute; or patterns of columns of the manifest, such as `[has_*]`. Empty text is a missing value. None for
            no attributes.

    Returns:
        The split, with the sizes of the files.

    Raises:
        UserError: Something in the tree or in the manifest is wrong; the message names it.
    """
    if split not in RULES:
        raise UserError(f"dataset.split is '{split}'{suggest(split, RULES)}")
    if split == "manifest" and manifest is None:
        raise UserError("dataset.split=manifest needs dataset.manifest=FILE, a CSV file with a role for each image")
    if not root:
        raise UserError("dataset.root is missing; set the directory of the images with dataset.root=DIRECTORY")
    require_directory(root, "folder")
    tree = Path(root)
    if group is not None and manifest is None:
        raise UserError(f"dataset.group={group} needs dataset.manifest=FILE, a CSV file with a column of this name")
    file = None if manifest is None else find_csv(tree, manifest)
    listed, others = (_list_tree(tree), pd.DataFrame()) if file is None else read_manifest(tree, file, group)
    _refuse_other_encodings(listed)
    frame, order = _number_classes(listed)
    if frame["label"].nunique() < 2:
        raise UserError(f"dataset.root '{root}' has only one class; retrieval needs at least two, preferably many")
    if split in DRAWN_RULES:
        frame, note = draw_roles(split, frame.assign(**first_half_of_classes(frame)), split_seed)
    else:
        refuse_unused_seed(split, split_seed)
        frame, note = frame.assign(**FIXED_RULES[split](frame)), FIXED_NOTES[split].format(order=order)
    notes = [note]
    outside = sum(_is_image(name) for name in os.listdir(tree)) if manifest is None else 0
    if outside:
        notes.append(f"images directly in {tree}, outside the class directories, are ignored: {outside:,}")
    if "role" in frame and split != "manifest":
        notes.append(f"dataset.split is {split}, so the roles in the manifest are ignored; dataset.split=manifest uses them")
    frame = frame.drop(columns="role", errors="ignore")
    leading = ["path", "label", "class_name", *ROLES]
    frame = frame[leading + [name for name in frame.columns if name not in leading]]
    group_kind = (group or "group") if "group" in frame else None
    present = read_attributes(attributes, tree, frame["path"], file, others)
    return Split(frame, tree, tuple(notes), group_kind=group_kind, attributes=present, attributes_hint=HINT)


def _refuse_other_encodings(listed: pd.DataFrame) -> None:
    """Refuse names that are not UTF-8, because rows and tables are."""
    for path in listed["path"]:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UserError(f"the name of {os.fsencode(path)!r} is not UTF-8; rename it") from None


def _list_tree(root: Path) -> pd.DataFrame:
    """Return path, label (name of the class directory) and size of every image, in the byte order of classes and paths."""
    lines = []
    for entry in sorted(os.scandir(root), key=lambda entry: os.fsencode(entry.name)):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        images = sorted(_find_images(Path(entry.path)), key=lambda image: os.fsencode(image[0]))
        if not images:
            raise UserError(f"the class directory {entry.path} contains no image; add images or remove it")
        lines += [(Path(path).relative_to(root).as_posix(), entry.name, size) for path, size in images]
    if not lines:
        raise UserError(f"dataset.root '{root}' contains no images; it needs root/<class>/<image>, or a dataset.manifest")
    return pd.DataFrame(lines, columns=["path", "label", "size_bytes"])


def _find_images(directory: Path) -> Iterator[tuple[str, int]]:
    """Yield path and size of each image, at any depth. Links to directories are followed, but not in circles."""
    known: dict[tuple[int, int], str] = {}
    waiting = [str(directory)]
    while waiting:
        current = waiting.pop()
        status = os.stat(current)
        other = known.setdefault((status.st_dev, status.st_ino), current)
        if other != current:
            raise UserError(f"{current} and {other} are the same directory, through a link; remove one of them")
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                elif _is_image(entry.name):
                    yield entry.path, size_bytes(Path(entry.path)) or 0


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _number_classes(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Make labels 0-based and without gaps, in numeric order if all are whole numbers, otherwise in byte order.

    If two labels are the same number, such as 7 and 07, labels count as names, so that classes are never merged.
    """
    texts = frame["label"]
    are_numbers = bool(texts.str.fullmatch(r"[+-]?\d+").all()) and texts.map(int).nunique() == texts.nunique()
    keys = texts.map(int) if are_numbers else texts
    order = sorted(keys.unique(), key=None if are_numbers else os.fsencode)
    labels = keys.map({key: label for label, key in enumerate(order)}).astype(np.int64)
    return frame.assign(label=labels, class_name=frame.get("class_name", texts)), "labels" if are_numbers else "names"


def _roles_of_manifest(frame: pd.DataFrame) -> dict[str, pd.Series]:
    if "role" not in frame:
        raise UserError(f"dataset.split=manifest needs a column {' or '.join(COLUMNS['role'])} in the manifest")
    given = frame["role"].str.lower()
    for name in given.unique():
        if name not in MANIFEST_ROLES:
            raise UserError(f"the role '{name}' in the manifest is not known{suggest(name, MANIFEST_ROLES)}")
    return {role: given.map(lambda name, role=role: role in MANIFEST_ROLES[name]).astype(bool) for role in ROLES}


FIXED_RULES: dict[str, Callable[[pd.DataFrame], dict[str, pd.Series]]] = {
    "zero_shot": first_half_of_classes,
    "manifest": _roles_of_manifest,
}
RULES = (*FIXED_RULES, *DRAWN_RULES)
FIXED_NOTES = {
    "zero_shot": "classes are ordered by their {order}; the first half are training classes, the others test classes",
    "manifest": "roles are those of the manifest; classes are ordered by their {order}",
}
