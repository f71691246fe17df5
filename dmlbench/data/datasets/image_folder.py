"""What most users bring: a tree of images, with or without a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.images import IMAGE_SUFFIXES, size_bytes
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.data.split_rules import HALF_PER_CLASS, first_half_of_classes, half_per_class
from dmlbench.errors import UserError, suggest

# The names under which a manifest's columns are understood, ours first.
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img", "img_path"),
    "label": ("label", "class_id", "class", "target", "category", "category_id", "id"),
    "class_name": ("class_name", "label_name", "category_name"),
    "role": ("role", "split", "subset", "set"),
    "box": ("box", "bbox", "bounding_box"),
}
# A manifest's role, and what an image with it is.
MEANINGS = {
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


def folder(root: str | None, manifest: str | None = None, split: str = "zero_shot", split_seed: int = 0) -> Split:
    """A tree `root/<class>/<image>`, or any tree with a CSV that lists its images.

    Args:
        root: the tree. Hidden files, macOS's `._*` among them, and files that are no images are ignored.
        manifest: a CSV, as a path or relative to `root`: path (relative to `root`) and label, optionally class name, role,
            box (x, y, width, height, or one column of four numbers) and attributes, which is every other column.
        split: `zero_shot`: the first half of the classes trains, the rest is query and gallery; classes are ordered by label
            where labels are numbers, else by name, byte by byte. `half_per_class`: half of each class's images trains.
            `manifest`: the manifest's roles; its `test` is query and gallery.
        split_seed: of `half_per_class`; each class draws from a stream of its own.

    Returns:
        The split, with the files' sizes.

    Raises:
        UserError: anything in the tree or the manifest that the user can mend; the sentence names it.
    """
    if split not in RULES:
        raise UserError(f"dataset.split is '{split}'{suggest(split, RULES)}")
    if split == "manifest" and manifest is None:
        raise UserError("dataset.split=manifest needs dataset.manifest=FILE, a CSV with a role for each image")
    if root is None:
        raise UserError("dataset.root is missing; name the folder that holds the images: dataset.root=FOLDER")
    tree = Path(root)
    if not tree.is_dir():
        what = "is no folder" if tree.exists() else "does not exist"
        raise UserError(f"dataset.root is '{root}', which {what}; name the folder that holds the images")
    listed = _tree(tree) if manifest is None else _manifest(tree, _manifest_file(tree, manifest))
    frame, order = _labelled(listed)
    if frame["label"].nunique() < 2:
        raise UserError(f"dataset.root '{root}' has one class; retrieval needs at least two, better many")
    roles, notes = RULES[split](frame, split_seed), [NOTES[split].format(order=order)]
    stray = sum(_is_image(name) for name in os.listdir(tree)) if manifest is None else 0
    if stray:
        notes.append(f"{stray:,} images lie directly in {tree}, in no class's folder, and are left out")
    if "role" in frame and split != "manifest":
        notes.append(f"the manifest's roles are not used: dataset.split is {split}; dataset.split=manifest takes them")
    frame = frame.drop(columns="role", errors="ignore").assign(**roles)
    leading = ["path", "label", "class_name", *ROLES]
    return Split(frame[leading + [name for name in frame.columns if name not in leading]], tree, tuple(notes))


def _tree(root: Path) -> pd.DataFrame:
    """Path, label (the class folder's name) and size of every image, class by class, in the order of their paths."""
    lines = []
    for entry in sorted(os.scandir(root), key=lambda entry: os.fsencode(entry.name)):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        images = sorted(_images(Path(entry.path)), key=lambda image: os.fsencode(image[0]))
        if not images:
            raise UserError(f"the class folder {entry.path} holds no image; fill it or remove it")
        lines += [(Path(path).relative_to(root).as_posix(), entry.name, size) for path, size in images]
    if not lines:
        raise UserError(f"dataset.root '{root}' holds no images; it needs root/<class>/<image>, or a dataset.manifest")
    return pd.DataFrame(lines, columns=["path", "label", "size_bytes"])


def _images(place: Path) -> Iterator[tuple[str, int]]:
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _images(Path(entry.path))
            elif _is_image(entry.name):
                yield entry.path, entry.stat().st_size


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _manifest_file(root: Path, manifest: str) -> Path:
    for file in (Path(manifest), root / manifest):
        if file.is_file():
            return file
    raise UserError(f"dataset.manifest '{manifest}' is neither a file nor one under {root}")


def _manifest(root: Path, file: Path) -> pd.DataFrame:
    """The manifest's lines under our names of columns, every image's size beside it."""
    try:
        raw = pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"dataset.manifest {file} cannot be read as CSV: {str(error).splitlines()[0]}") from None
    names = {str(column).strip().lower(): str(column) for column in raw.columns}
    frame, known = pd.DataFrame(index=raw.index), set()
    for ours, aliases in COLUMNS.items():
        found = next((names[alias] for alias in aliases if alias in names), None)
        if found is not None:
            frame[ours] = raw[found].str.strip()
            known.add(found)
        elif ours in ("path", "label"):
            raise UserError(
                f"dataset.manifest {file} has no column for the {ours}: it has {', '.join(map(str, raw.columns))}; "
                f"name one {' or '.join(aliases)}"
            )
    if frame.empty:
        raise UserError(f"dataset.manifest {file} lists no image")
    for column in ("path", "label"):
        if (frame[column] == "").any():
            line = int((frame[column] == "").to_numpy().argmax())
            raise UserError(f"dataset.manifest {file}, line {line + 2}: the {column} is empty")
    frame, known = _with_boxes(frame, raw, names, known, file)
    for column in raw.columns:
        if column not in known:
            frame[f"attribute_{column}"] = raw[column]
    frame["path"] = frame["path"].map(os.path.normpath)
    frame["size_bytes"] = _sizes(root, frame["path"], file)
    return frame


def _with_boxes(
    frame: pd.DataFrame, raw: pd.DataFrame, names: dict[str, str], known: set[str], file: Path
) -> tuple[pd.DataFrame, set[str]]:
    """Boxes as four columns of floats, from four columns or from one."""
    if "box" in frame:
        parts = frame.pop("box").str.strip("[]() ").str.split(r"[,; ]+", expand=True, regex=True)
    elif all(side in names for side in BOX):
        parts = raw[[names[side] for side in BOX]]
        known |= {names[side] for side in BOX}
    else:
        return frame, known
    if parts.shape[1] != len(BOX):
        raise UserError(f"dataset.manifest {file}: a box needs four numbers, {', '.join(BOX)}")
    for side, column in zip(BOX, parts.columns, strict=True):
        frame[side] = pd.to_numeric(parts[column], errors="coerce").astype(float)
        wrong = ~(np.isfinite(frame[side]) & (frame[side] >= 0))
        if wrong.any():
            line = int(wrong.to_numpy().argmax())
            raise UserError(f"dataset.manifest {file}, line {line + 2}: the box's {side} is no number from 0 on")
    return frame, known


def _sizes(root: Path, paths: pd.Series, file: Path) -> list[int]:
    repeated = paths[paths.duplicated()]
    if len(repeated):
        raise UserError(f"dataset.manifest {file} lists {len(repeated):,} images twice, such as {repeated.iloc[0]}")
    outside = [path for path in paths if path.split("/")[0] == ".." or os.path.isabs(path)]
    if outside:
        raise UserError(f"dataset.manifest {file}: {outside[0]} lies outside {root}; paths are relative to dataset.root")
    sizes = [size_bytes(root / path) for path in paths]
    missing = [path for path, size in zip(paths, sizes, strict=True) if size is None]
    if missing:
        raise UserError(
            f"dataset.manifest {file}: {len(missing):,} of {len(paths):,} images are not under {root}, such as {missing[0]}"
        )
    return [size for size in sizes if size is not None]


def _labelled(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Labels 0-based and without gaps, in numeric order where all are whole numbers, else in the order of their bytes.

    Where two are the same number, as 7 and 07, they are names: two classes never become one.
    """
    texts = frame["label"]
    numbers = bool(texts.str.fullmatch(r"[+-]?\d+").all()) and texts.map(int).nunique() == texts.nunique()
    keys = texts.map(int) if numbers else texts
    order = sorted(keys.unique(), key=None if numbers else os.fsencode)
    labels = keys.map({key: place for place, key in enumerate(order)}).astype(np.int64)
    return frame.assign(label=labels, class_name=frame.get("class_name", texts)), "labels" if numbers else "names"


def _by_manifest(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    if "role" not in frame:
        raise UserError(f"dataset.split=manifest needs a column {' or '.join(COLUMNS['role'])} in the manifest")
    said = frame["role"].str.lower()
    for role in said.unique():
        if role not in MEANINGS:
            raise UserError(f"the manifest's role '{role}' is not known{suggest(role, MEANINGS)}")
    return {role: said.map(lambda word, role=role: role in MEANINGS[word]).astype(bool) for role in ROLES}


RULES: dict[str, Callable[[pd.DataFrame, int], dict[str, pd.Series]]] = {
    "zero_shot": first_half_of_classes,
    "half_per_class": half_per_class,
    "manifest": _by_manifest,
}
NOTES = {
    "zero_shot": "the first half of the classes, in the order of their {order}, trains; the rest is unseen",
    "half_per_class": HALF_PER_CLASS,
    "manifest": "roles are the manifest's; classes are numbered in the order of their {order}",
}
