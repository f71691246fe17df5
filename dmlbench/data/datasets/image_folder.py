"""Images of the user: a directory tree, with or without a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.config.requirements import require_directory
from dmlbench.data.images import IMAGE_SUFFIXES, size_bytes
from dmlbench.data.split import BOX, ROLES, Split
from dmlbench.data.split_rules import HALF_PER_CLASS_NOTE, first_half_of_classes, half_per_class
from dmlbench.errors import UserError, suggest

# Accepted names of the columns of a manifest, in the order of preference.
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img", "img_path"),
    "label": ("label", "class_id", "class", "target", "category", "category_id", "id"),
    "class_name": ("class_name", "label_name", "category_name"),
    "role": ("role", "split", "subset", "set"),
    "box": ("box", "bbox", "bounding_box"),
}
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


def folder(root: str | None, manifest: str | None = None, split: str = "zero_shot", split_seed: int = 0) -> Split:
    """Read a directory tree `root/<class>/<image>`, or any tree with a CSV file that lists its images.

    Args:
        root: Directory of the images. Hidden files (including `._*` of macOS) and files that are not images are ignored.
        manifest: CSV file, as a path or relative to `root`. Its columns: path (relative to `root`) and label; optionally class
            name, role and box (x, y, width, height, or one column of four numbers). Other columns become attributes.
        split: `zero_shot`: the first half of the classes are training classes, the others test classes. Classes are ordered
            by label if all labels are numbers, otherwise by name, byte by byte. `half_per_class`: half of the images of each
            class are training images. `manifest`: the roles of the manifest; its `test` is query and gallery.
        split_seed: Seed of `half_per_class`. Each class has an independent random stream.

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
    listed = _list_tree(tree) if manifest is None else _read_manifest(tree, _find_manifest(tree, manifest))
    _refuse_other_encodings(listed)
    frame, order = _number_classes(listed)
    if frame["label"].nunique() < 2:
        raise UserError(f"dataset.root '{root}' has only one class; retrieval needs at least two, preferably many")
    roles, notes = RULES[split](frame, split_seed), [NOTES[split].format(order=order)]
    outside = sum(_is_image(name) for name in os.listdir(tree)) if manifest is None else 0
    if outside:
        notes.append(f"images directly in {tree}, outside the class directories, are ignored: {outside:,}")
    if "role" in frame and split != "manifest":
        notes.append(f"dataset.split is {split}, so the roles in the manifest are ignored; dataset.split=manifest uses them")
    frame = frame.drop(columns="role", errors="ignore").assign(**roles)
    leading = ["path", "label", "class_name", *ROLES]
    return Split(frame[leading + [name for name in frame.columns if name not in leading]], tree, tuple(notes))


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


def _find_manifest(root: Path, manifest: str) -> Path:
    for file in (Path(manifest), root / manifest):
        if file.is_file():
            return file
    raise UserError(f"dataset.manifest '{manifest}' does not exist, neither as a path nor under {root}")


def _read_manifest(root: Path, file: Path) -> pd.DataFrame:
    """Return the rows of a manifest under the names of a split's columns, with the size of every image."""
    raw = _read_csv(file)
    names = {str(column).strip().lower(): str(column) for column in raw.columns}
    frame, known = pd.DataFrame(index=raw.index), set()
    for column, aliases in COLUMNS.items():
        name = next((names[alias] for alias in aliases if alias in names), None)
        if name is not None:
            frame[column] = raw[name].str.strip()
            known.add(name)
        elif column in ("path", "label"):
            raise UserError(
                f"dataset.manifest {file} has no column for the {column}: it has {', '.join(map(str, raw.columns))}; "
                f"rename the one that holds it to {column} (also accepted: {', '.join(aliases[1:])})"
            )
    if frame.empty:
        raise UserError(f"dataset.manifest {file} lists no image")
    for column in ("path", "label"):
        if (frame[column] == "").any():
            row = int((frame[column] == "").to_numpy().argmax())
            raise UserError(f"dataset.manifest {file}, line {row + 2}: the {column} is empty")
    frame, known = _with_boxes(frame, raw, names, known, file)
    for column in raw.columns:
        if column not in known:
            frame[f"attribute_{column}"] = raw[column]
    frame["path"] = frame["path"].map(os.path.normpath)
    frame["size_bytes"] = _sizes(root, frame["path"], file)
    return frame


def _read_csv(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True)
    except UnicodeDecodeError:
        raise UserError(f"dataset.manifest {file} is not UTF-8 text; save it in this encoding") from None
    except Exception as error:  # the parser raises exceptions of many classes on files that are not CSV
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"dataset.manifest {file} cannot be read as CSV: {reason}") from None


def _with_boxes(
    frame: pd.DataFrame, raw: pd.DataFrame, names: dict[str, str], known: set[str], file: Path
) -> tuple[pd.DataFrame, set[str]]:
    """Add boxes as four columns of floats, from four columns or from one."""
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
        is_size = side in ("width", "height")
        wrong = ~(np.isfinite(frame[side]) & (frame[side] > 0 if is_size else frame[side] >= 0))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            range_ = "above 0" if is_size else "of at least 0"
            raise UserError(
                f"dataset.manifest {file}, line {row + 2}: {side} of the box is '{parts[column].iloc[row]}', but must be a "
                f"number {range_}"
            )
    return frame, known


def _sizes(root: Path, paths: pd.Series, file: Path) -> list[int]:
    repeated = paths[paths.duplicated()]
    if len(repeated):
        raise UserError(f"dataset.manifest {file} repeats {len(repeated):,} of its images, such as {repeated.iloc[0]}")
    outside = [path for path in paths if path.split("/")[0] == ".." or os.path.isabs(path)]
    if outside:
        raise UserError(f"dataset.manifest {file}: {outside[0]} is outside {root}; paths must be relative to dataset.root")
    sizes = [size_bytes(root / path) for path in paths]
    missing = [path for path, size in zip(paths, sizes, strict=True) if size is None]
    if missing:
        raise UserError(
            f"dataset.manifest {file}: {len(missing):,} of {len(paths):,} images do not exist under {root}, such as "
            f"{missing[0]}"
        )
    return [size for size in sizes if size is not None]


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


def _roles_of_manifest(frame: pd.DataFrame, split_seed: int) -> dict[str, pd.Series]:
    if "role" not in frame:
        raise UserError(f"dataset.split=manifest needs a column {' or '.join(COLUMNS['role'])} in the manifest")
    given = frame["role"].str.lower()
    for name in given.unique():
        if name not in MANIFEST_ROLES:
            raise UserError(f"the role '{name}' in the manifest is not known{suggest(name, MANIFEST_ROLES)}")
    return {role: given.map(lambda name, role=role: role in MANIFEST_ROLES[name]).astype(bool) for role in ROLES}


RULES: dict[str, Callable[[pd.DataFrame, int], dict[str, pd.Series]]] = {
    "zero_shot": first_half_of_classes,
    "half_per_class": half_per_class,
    "manifest": _roles_of_manifest,
}
NOTES = {
    "zero_shot": "classes are ordered by their {order}; the first half are training classes, the others test classes",
    "half_per_class": HALF_PER_CLASS_NOTE,
    "manifest": "roles are those of the manifest; classes are ordered by their {order}",
}
