"""The files of a run's test images: written beside its embeddings, and found again for pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages, read_run_images
from dmlbench.runs.recorded_values import local_path
from dmlbench.system.atomic_write import atomic_write

if TYPE_CHECKING:
    from dmlbench.data.split import Split


def images_of(split: Split, training: bool = False) -> RunImages:
    """Return the query and gallery images of a data set.

    Args:
        split: Data set of a run.
        training: Whether to return its other images too.
    """
    from dmlbench.data.split import BOX

    frame = split.frame if training else split.frame[split.frame["query"] | split.frame["gallery"]]
    boxes = frame[list(BOX)].to_numpy(dtype=float) if set(BOX) <= set(frame.columns) else None
    has_boxes = boxes is not None and bool((abs(boxes) < float("inf")).all())
    return RunImages(
        root=split.root,
        ids=frame.index.tolist(),
        paths=frame["path"].tolist(),
        sha256=frame["content"].tolist() if "content" in frame else None,
        boxes=boxes.tolist() if boxes is not None and has_boxes else None,
    )


def write_images(folder: Path, split: Split, training: bool = False) -> None:
    """Write the list of the images that have an embedding into the directory of a run.

    Args:
        folder: Directory of the run.
        split: Data set of the run.
        training: Whether training images have embeddings too.
    """
    atomic_write(folder / run_files.IMAGES, json.dumps(images_of(split, training).columns, ensure_ascii=False) + "\n")


def find_images(row: Row, options: Sequence[str] = (), config_dir: Path | None = None) -> RunImages:
    """Return the files of a run's test images.

    They are listed beside the embeddings. A run of an earlier version wrote no list, so its data set is read again, which needs
    torch and Hydra. Images outside of the current directory and of `paths.data` are read only if the user types their path.

    Args:
        row: Row of the run, with its directory. It is not trusted.
        options: Overrides that the user typed, such as `dataset.root=photos`. They are trusted.
        config_dir: Directory of the user's own configuration files, for a run of an earlier version.

    Raises:
        UserError: The images are elsewhere, or they are not those of the run.
        HydraException, OmegaConfBaseException: The options do not compose.
    """
    assert row.folder is not None
    images = read_run_images(row.folder)
    if images is None:
        from dmlbench.runs.recorded_dataset import recorded_split

        return images_of(recorded_split(row, options, config_dir), training=True)
    typed = {key.lstrip("+"): value for key, _, value in (one.partition("=") for one in options)}
    if "dataset.root" in typed:
        root = Path(typed["dataset.root"])
        if not root.is_dir():
            raise UserError(f"dataset.root is '{root}', which is not a directory")
        return images.below(root)
    try:
        local_path("root", str(images.root), None, (Path(), Path(typed.get("paths.data", "data"))))
    except UserError as error:
        raise UserError(f"{row.folder}: {error}") from None
    if not images.root.is_dir():
        raise UserError(f"{row.folder}: the directory of its images, {images.root}, does not exist; type dataset.root=DIR")
    return images
