"""The `Split` that every data set returns: a data frame with one row per image, and its digest.

Columns of the frame; the first seven are required and come first:

    path          text, relative to `root`
    label         int64, 0-based and without gaps; training and test classes share one numbering
    class_name    text
    train, val, query, gallery     bool; an image may be both query and gallery, and a gallery may contain training images
    x, y, width, height            float64, in pixels of the file: bounding box of the object
    size_bytes    int64, size of the file; part of the digest, for data sets that the user provides
    content       SHA-256 of the file, empty if it cannot be read; `data.contents` adds it
    group         text, the group of the class, such as the alphabet of a character; not part of the digest

Binary attributes of the images are in `Split.attributes`, outside of the frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from dmlbench.data.attributes import NO_ATTRIBUTES_HINT, Attributes
from dmlbench.data.class_groups import group_columns, groups_by_class, refuse_bad_groups
from dmlbench.errors import UserError

ROLES = ("train", "val", "query", "gallery")
BOX = ("x", "y", "width", "height")
# Whose images a data set has: those of the user, those of a published data set, or those of a generator.
Origin = Literal["own", "published", "generated"]


@dataclass(frozen=True, eq=False)
class Split:
    """Images, labels and roles of one data set.

    Args:
        frame: One row per image, with the columns that the module docstring lists. Its index is 0..N-1: the id of an image.
        root: Directory that the column `path` is relative to.
        notes: Sentences for the user about how the split was made, such as the order of the classes.
        n_skipped: Number of unreadable images that were left out because the user asked for it.
        origin: `own` images are identified by their contents, those of a `published` data set by their names and sizes, and
            `generated` images by the version of their generator, which is in their paths.
        n_duplicates: Number of test images that equal a training image, or nearly; None if it has not been counted.
        group_kind: What the column `group` contains, such as `alphabet`.
        attributes: Binary attributes of the images, in the order of the ids; None if the data set has none. Not part of the
            digest.
        attributes_hint: What the user can do to get attributes, after a sentence that says that there are none.

    Raises:
        ValueError: A required column is missing, the labels have gaps, the index is not 0..N-1, or there are attributes of
            another number of images.
    """

    frame: pd.DataFrame
    root: Path
    notes: tuple[str, ...] = field(default=())
    n_skipped: int = 0
    origin: Origin = "own"
    n_duplicates: int | None = None
    group_kind: str | None = None
    attributes: Attributes | None = None
    attributes_hint: str = NO_ATTRIBUTES_HINT

    def __post_init__(self) -> None:
        missing = [name for name in ("path", "label", "class_name", *ROLES) if name not in self.frame.columns]
        if missing:
            raise ValueError(f"the frame of a split has no column {', '.join(missing)}")
        labels = self.frame["label"].to_numpy()
        if len(labels) and not np.array_equal(np.unique(labels), np.arange(labels.max() + 1)):
            raise ValueError("the labels of a split must be 0-based and without gaps")
        if not self.frame.index.equals(pd.RangeIndex(len(self.frame))):
            raise ValueError("the index of a split's frame must be 0..N-1, because it is the id of each image")
        if self.attributes is not None and len(self.attributes.values) != len(self.frame):
            raise ValueError(f"a split of {len(self.frame):,} images has attributes of {len(self.attributes.values):,} images")

    def ids(self, role: str) -> np.ndarray:
        """Return the ids of the images with a role, ascending, int64 `(N,)`.

        Args:
            role: One of `ROLES`.
        """
        return np.flatnonzero(self.frame[role].to_numpy())

    def labels(self, role: str) -> np.ndarray:
        """Return the labels of the images with a role, in the order of `ids`, int64 `(N,)`.

        Args:
            role: One of `ROLES`.
        """
        return self.frame["label"].to_numpy()[self.ids(role)]

    def paths(self) -> list[Path]:
        """Return the path of every image, including `root`, in the order of the ids."""
        return [self.root / path for path in self.frame["path"]]

    def boxes(self) -> np.ndarray:
        """Return the bounding box of every image, in the order of the ids.

        Returns:
            float64 `(N, 4)`: x, y, width, height in pixels of the file.

        Raises:
            UserError: The data set has no boxes, or a side of one of them is below one pixel.
        """
        if not set(BOX) <= set(self.frame.columns):
            raise UserError(f"protocol.crop_to_box is true, but the images under {self.root} have no boxes")
        boxes = self.frame[list(BOX)].to_numpy(dtype=np.float64)
        small = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= 1).all(axis=1))
        if small.any():
            image_id = int(small.argmax())
            raise UserError(
                f"protocol.crop_to_box is true, but {int(small.sum()):,} of {len(boxes):,} boxes have a side below one pixel, "
                f"such as that of {self.frame['path'][image_id]}: {boxes[image_id].tolist()} (x, y, width, height)"
            )
        return boxes

    def class_names(self, role: str) -> dict[int, str]:
        """Return the names of the classes that have an image with a role.

        Args:
            role: One of `ROLES`.

        Returns:
            Label to name, in ascending order of the labels.
        """
        classes = self.frame.loc[self.frame[role], ["label", "class_name"]].drop_duplicates("label").sort_values("label")
        return {int(label): str(name) for label, name in zip(classes["label"], classes["class_name"], strict=True)}

    def class_groups(self, *roles: str) -> dict[int, str]:
        """Return the groups of the classes that have an image with one of some roles.

        Args:
            roles: Some of `ROLES`.

        Returns:
            Label to group, in ascending order of the labels; empty if the data set has no groups.
        """
        return groups_by_class(self.frame, *roles)

    @property
    def n_attributes(self) -> int:
        """Number of binary attributes; 0 if the data set has none."""
        return 0 if self.attributes is None else len(self.attributes.names)

    @property
    def facts(self) -> dict[str, int]:
        """Numbers of images and classes, which the file of a data set may declare and `verify` compares."""
        test = self.frame["label"][self.frame["query"] | self.frame["gallery"]]
        return {
            "images": len(self.frame),
            "train_classes": len(np.unique(self.labels("train"))),
            "train_images": int(self.frame["train"].sum()),
            "test_classes": int(test.nunique()),
            "query_images": int(self.frame["query"].sum()),
            "gallery_images": int(self.frame["gallery"].sum()),
        }

    @property
    def digest(self) -> str:
        """16 hex digits over paths, labels, roles, boxes and file sizes, and over the contents of the user's own images.

        Other columns and the order of the columns do not matter.
        """
        names = ["path", "label", *ROLES, *BOX, "size_bytes", *(["content"] if self.origin == "own" else [])]
        text = self.frame[[name for name in names if name in self.frame.columns]].to_csv(index=False, lineterminator="\n")
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def images_digest(self) -> str | None:
        """16 hex digits over the contents of all images, in their order; None for generated images, and before hashing.

        Encoders differ between machines, so generated files may differ although their pixels are equal.
        """
        if self.origin == "generated" or "content" not in self.frame.columns:
            return None
        return hashlib.sha256("\n".join(self.frame["content"]).encode()).hexdigest()[:16]

    @property
    def shared_classes(self) -> list[int]:
        """Labels of the classes that have both training and test images, ascending."""
        seen = self.frame.loc[self.frame["train"] | self.frame["val"], "label"]
        return sorted(set(seen) & set(self.frame.loc[self.frame["query"] | self.frame["gallery"], "label"]))

    @property
    def columns(self) -> dict[str, str | int | None]:
        """What result rows record about the images, in addition to `facts`."""
        return {
            "images_digest": self.images_digest,
            "n_shared_classes": len(self.shared_classes),
            "n_duplicates_across_split": self.n_duplicates,
            **group_columns(self.frame, self.group_kind),
            **({} if self.attributes is None else {"n_attributes": self.n_attributes}),
        }

    def without(self, ids: np.ndarray) -> Split:
        """Return a split without some images. Ids and labels are renumbered, and `n_skipped` grows.

        Args:
            ids: int64 `(M,)`, ids of the images to leave out.
        """
        kept = np.setdiff1d(np.arange(len(self.frame)), ids)
        return replace(self._only(kept), n_skipped=self.n_skipped + len(ids))

    def training(self) -> Split:
        """Return only the images for training and validation, without test roles: what a method may be tuned on."""
        split = self._only(np.flatnonzero(self.frame["train"] | self.frame["val"]))
        return replace(split, frame=split.frame.assign(query=False, gallery=False))

    def _only(self, ids: np.ndarray) -> Split:
        """Return a split with some images only, in the order of their ids. Ids and labels are renumbered."""
        frame = self.frame.iloc[ids].reset_index(drop=True)
        frame["label"] = np.unique(frame["label"], return_inverse=True)[1].astype(np.int64)
        return replace(self, frame=frame, attributes=None if self.attributes is None else self.attributes.rows(ids))

    def verify(self, name: str, declared: Mapping[str, int | None]) -> None:
        """Compare declared facts with the files, and check that the split can be trained and evaluated on.

        Args:
            name: Name of the data set, for error messages.
            declared: Names of `facts`, and `n_attributes`, to their declared values. None is not compared, and neither is the
                number of attributes if none have been read.

        Raises:
            UserError: A fact differs (the message contains both numbers), a role is empty, no query has a positive, or a class
                does not have one group.
        """
        facts = self.facts
        known = {**facts, "n_attributes": self.n_attributes}
        for fact, expected in declared.items():
            if fact == "n_attributes" and self.attributes is None:  # they have not been read
                continue
            if expected is not None and expected != known[fact]:
                raise UserError(
                    f"dataset/{name}: {fact} is declared as {expected:,} but the files under {self.root} have {known[fact]:,}"
                )
        for fact, actual in facts.items():
            if actual == 0:
                raise UserError(f"dataset/{name}: the split has no {fact.replace('_', ' ')} (files under {self.root})")
        refuse_bad_groups(name, self.frame)
        self._refuse_single_class(name)
        if self.n_queries_without_positives == facts["query_images"]:
            raise UserError(
                f"dataset/{name}: no query has another image of its class in the gallery, so there is nothing to retrieve; "
                "test classes need at least two images"
            )

    def _refuse_single_class(self, name: str) -> None:
        names = self.frame.loc[self.frame["query"] | self.frame["gallery"], "class_name"].unique()
        if len(names) == 1:
            raise UserError(
                f"dataset/{name}: the test images have a single class, '{names[0]}', so every embedding would score 100 %; use "
                "more classes (half of them are test classes by default), or test on other images of the training classes "
                "with dataset.split=half_per_class"
            )

    @property
    def n_queries_without_positives(self) -> int:
        """Number of queries whose class has no other image in the gallery."""
        gallery = self.frame.loc[self.frame["gallery"], "label"].value_counts()
        queries = self.frame[self.frame["query"]]
        positives = queries["label"].map(gallery).fillna(0) - queries["gallery"].astype(int)
        return int((positives <= 0).sum())
