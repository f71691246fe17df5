"""The user's own images: a folder a class, or any tree with a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.images import IMAGE_SUFFIXES
from dmlbench.data.manifest import Manifest, read_manifest
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.errors import UserError, suggest
from dmlbench.randomness import numpy_generator

_NUMBER = r"[+-]?\d+(?:\.\d*)?"


def folder(root: str, manifest: str | None = None, split: str = "zero_shot", split_seed: int = 0) -> Split:
    """A tree `root/<class>/<image>`, however deep below the class, or any tree with a CSV manifest.

    Hidden files and files that are no images are ignored. Labels may be any text or numbers, with gaps: they are
    numbered anew, in their numeric order where all are numbers, else in C order.

    Args:
        root: the folder with the images.
        manifest: a CSV with the columns path (relative to `root`) and label, and optionally class_name, role, box (x,
            y, width, height) and attributes, or the usual other names of these; itself a path as it stands or relative
            to `root`.
        split: `zero_shot`: the first half of the classes trains (of an odd number, the smaller), the rest is query and
            gallery; `half_per_class`: half of each class's images trains (of an odd number, the smaller), the rest is
            query and gallery; `manifest`: as the manifest's role column says.
        split_seed: of the halves of `half_per_class`, each class's from a generator of its own.

    Returns:
        The split, with `size_bytes`; its notes tell the order of the classes and what was left out.

    Raises:
        UserError: the root, the manifest or the split cannot be used as asked.
    """
    place = Path(root).expanduser()
    _check(place, manifest, split)
    source = _scan(place) if manifest is None else read_manifest(place, manifest)
    notes = list(source.notes)
    if split != "manifest" and source.role_column:
        notes.append(
            f"the manifest's role column '{source.role_column}' is not used, for split is {split};"
            " dataset.split=manifest follows it"
        )
    frame, order = _numbered(source.frame)
    names = frame.groupby("label")["class_name"].first()
    if len(names) < 2:
        raise UserError(f"{place} has one class ('{names[0]}'); retrieval needs two at least")
    if split == "manifest" and not source.role_column:
        raise UserError(
            f"dataset.split=manifest needs a role column (role, split, subset) in the manifest {manifest}, which has none;"
            " dataset.split=zero_shot and dataset.split=half_per_class need none"
        )
    notes += _SPLITS[split](frame, order, split_seed)
    attributes = [name for name in frame.columns if name.startswith("attribute_")]
    columns = ["path", "label", "class_name", *ROLES, *(c for c in BOX if c in frame.columns), "size_bytes", *attributes]
    return Split(frame[columns], place, notes=tuple(notes))


def _check(root: Path, manifest: str | None, split: str) -> None:
    if split not in _SPLITS:
        raise UserError(f"dataset.split is '{split}', which is no split of a folder{suggest(split, _SPLITS)}")
    if not root.exists():
        raise UserError(f"the folder '{root}' does not exist; dataset.root= names the folder with the images")
    if not root.is_dir():
        raise UserError(f"'{root}' is a file, not a folder; dataset.root= names the folder with the images")
    if split == "manifest" and manifest is None:
        raise UserError("dataset.split=manifest needs dataset.manifest= with the path of a CSV (path, label, role)")


def _scan(root: Path) -> Manifest:
    """List a tree in which the first-level folder is the class."""
    classes, loose = [], 0
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                classes += [entry] if entry.is_dir() else []
                loose += entry.is_file() and _is_image(entry.name)
    lines: list[tuple[str, str, int]] = []
    empty = []
    for entry in sorted(classes, key=lambda entry: entry.name):
        found = sorted(_images(entry.path, f"{entry.name}/"))
        lines += [(path, entry.name, size) for path, size in found]
        empty += [] if found else [entry.name]
    _check_tree(root, n_images=len(lines), loose=loose, empty=empty)
    frame = pd.DataFrame(lines, columns=["path", "label", "size_bytes"]).assign(class_name=lambda f: f["label"])
    notes = (f"{loose:,} images directly in {root} belong to no class and are left out",) if loose else ()
    return Manifest(frame, role_column=None, notes=notes)


def _check_tree(root: Path, n_images: int, loose: int, empty: list[str]) -> None:
    if not n_images:
        where = f"its {loose:,} images lie in no class folder" if loose else "nothing there ends as an image file does"
        raise UserError(
            f"'{root}' has no images of the form <class>/<image> ({where});"
            " dataset.root= names the folder that holds a folder for each class, dataset.manifest= a CSV for any other tree"
        )
    if empty:
        others = f", like {len(empty) - 1:,} others" if len(empty) > 1 else ""
        raise UserError(f"the class folder '{root / empty[0]}' has no images{others}; fill it or remove it")


def _images(place: str, prefix: str) -> Iterator[tuple[str, int]]:
    """The images at or below a folder: path relative to the root, bytes."""
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _images(entry.path, f"{prefix}{entry.name}/")
            elif _is_image(entry.name):
                yield prefix + entry.name, entry.stat().st_size


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _numbered(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Number the labels 0-based and without gaps, and say in which order."""
    given = frame["label"]
    labels = sorted(given.unique())  # code points, which is the C order of UTF-8 bytes
    order = "C order of their names"
    if all(given.drop_duplicates().str.fullmatch(_NUMBER)):
        labels.sort(key=float)
        order = "numeric order of their labels"
    number = {label: index for index, label in enumerate(labels)}
    return frame.assign(label=given.map(number).astype(np.int64), given_label=given), order


def _set_roles(frame: pd.DataFrame, train: pd.Series) -> None:
    frame["train"], frame["val"], frame["query"], frame["gallery"] = train, False, ~train, ~train


def _zero_shot(frame: pd.DataFrame, order: str, split_seed: int) -> list[str]:
    n_classes = int(frame["label"].max()) + 1
    _set_roles(frame, frame["label"] < n_classes // 2)
    return [f"zero_shot: the first {n_classes // 2:,} of {n_classes:,} classes train, in {order}; the rest is unseen"]


def _half_per_class(frame: pd.DataFrame, order: str, split_seed: int) -> list[str]:
    train = np.zeros(len(frame), bool)
    # Neither another class nor the order of the lines may move a class's images: own generator, sorted paths.
    for label, lines in frame.sort_values("path").groupby("given_label", sort=False).indices.items():
        ids = frame.sort_values("path").index.to_numpy()[lines]
        generator = numpy_generator(split_seed, f"half_per_class:{label}")
        train[generator.permutation(ids)[: len(ids) // 2]] = True
    _set_roles(frame, pd.Series(train, index=frame.index))
    return [f"half_per_class: half of each class's images trains, chosen by split_seed {split_seed}; the rest is unseen"]


def _manifest(frame: pd.DataFrame, order: str, split_seed: int) -> list[str]:
    for role in ROLES:
        frame[role] = frame["role"].map(lambda value, role=role: role in ROLE_VALUES[value])
    return ["manifest: the roles are the manifest's; its test is query and gallery"]


_SPLITS: dict[str, Callable[[pd.DataFrame, str, int], list[str]]] = {
    "zero_shot": _zero_shot,
    "half_per_class": _half_per_class,
    "manifest": _manifest,
}
