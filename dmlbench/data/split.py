"""What every data set returns: a frame with one line an image, and its digest.

Columns of the frame, in this order where present:

    path          text, relative to `root`
    label         int64, 0-based, without gaps, train classes and test classes numbered together
    class_name    text
    train, val, query, gallery     bool; an image may be both query and gallery, and a gallery may hold training images
    x, y, width, height            float64, pixels of the file: the object's box
    size_bytes    int64, of the file; part of the digest, for data sets that a user brings
    attribute_*   anything else that the data set knows of an image
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.errors import UserError

ROLES = ("train", "val", "query", "gallery")
BOX = ("x", "y", "width", "height")


@dataclass(frozen=True, eq=False)
class Split:
    """Images, labels and roles of one data set.

    Args:
        frame: one line an image, as this module's docstring says.
        root: the folder that `path` is relative to.
        notes: what a reader should be told of how the split came about (order of classes, images skipped), a sentence each.
        n_skipped: images left out because they could not be read, at the user's request.
    """

    frame: pd.DataFrame
    root: Path
    notes: tuple[str, ...] = field(default=())
    n_skipped: int = 0

    def __post_init__(self) -> None:
        missing = [name for name in ("path", "label", "class_name", *ROLES) if name not in self.frame.columns]
        if missing:
            raise ValueError(f"a split's frame lacks {', '.join(missing)}")
        labels = self.frame["label"].to_numpy()
        if len(labels) and not np.array_equal(np.unique(labels), np.arange(labels.max() + 1)):
            raise ValueError("labels must be 0-based and without gaps")
        if not self.frame.index.equals(pd.RangeIndex(len(self.frame))):
            raise ValueError("a split's frame is indexed 0..N-1: an image's line is its id")

    def ids(self, role: str) -> np.ndarray:
        """The ids (lines of the frame) of the images with a role, ascending, int64 `(N,)`."""
        return np.flatnonzero(self.frame[role].to_numpy())

    def labels(self, role: str) -> np.ndarray:
        """The labels of the images with a role, in the order of `ids`, int64 `(N,)`."""
        return self.frame["label"].to_numpy()[self.ids(role)]

    def paths(self) -> list[Path]:
        """Every image's whole path, by id."""
        return [self.root / path for path in self.frame["path"]]

    def boxes(self) -> np.ndarray:
        """Every image's box, by id: x, y, width, height in pixels of the file, float64 `(N, 4)`.

        Raises:
            UserError: the data set has none.
        """
        if not set(BOX) <= set(self.frame.columns):
            raise UserError(f"protocol.crop_to_box is true, but the images under {self.root} have no boxes")
        return self.frame[list(BOX)].to_numpy(dtype=np.float64)

    def class_names(self, role: str) -> dict[int, str]:
        """The name of each class that has an image with a role, by its label, ascending."""
        some = self.frame.loc[self.frame[role], ["label", "class_name"]].drop_duplicates("label").sort_values("label")
        return {int(label): str(name) for label, name in zip(some["label"], some["class_name"], strict=True)}

    @property
    def facts(self) -> dict[str, int]:
        """What a YAML may declare and the files must confirm: counts of images and classes, of all and per role."""
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
        """16 hex digits over paths, labels, roles, boxes and file sizes, whatever the order of the other columns."""
        columns = [name for name in ("path", "label", *ROLES, *BOX, "size_bytes") if name in self.frame.columns]
        text = self.frame[columns].to_csv(index=False, lineterminator="\n")
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def without(self, ids: np.ndarray) -> Split:
        """The split less some images (by id): labels and ids are numbered anew, and the images counted as skipped."""
        frame = self.frame.drop(index=list(ids)).reset_index(drop=True)
        frame["label"] = np.unique(frame["label"], return_inverse=True)[1].astype(np.int64)
        return replace(self, frame=frame, n_skipped=self.n_skipped + len(ids))

    def training(self) -> Split:
        """The images for training and validation alone, without a role in the test set: what a method may be tuned on."""
        seen = self.frame["train"] | self.frame["val"]
        frame = self.frame[seen].reset_index(drop=True).assign(query=False, gallery=False)
        frame["label"] = np.unique(frame["label"], return_inverse=True)[1].astype(np.int64)
        return replace(self, frame=frame)

    def verify(self, name: str, declared: Mapping[str, int | None]) -> None:
        """Compare declared facts with the files.

        Args:
            name: the data set's name, for the sentence.
            declared: a subset of `facts`; None is a fact nobody declared.

        Raises:
            UserError: a fact differs (both numbers are said), a role is empty, or no query can find anything.
        """
        for fact, expected in declared.items():
            found = self.facts[fact]
            if expected is not None and expected != found:
                raise UserError(
                    f"dataset/{name}: {fact} is declared as {expected:,} but the files under {self.root} have {found:,}"
                )
        for fact, found in self.facts.items():
            if found == 0:
                raise UserError(f"dataset/{name}: the split has no {fact.replace('_', ' ')} (files under {self.root})")
        if self.n_without_match == self.facts["query_images"]:
            raise UserError(
                f"dataset/{name}: no query has another image of its class in the gallery, so there is nothing to retrieve; "
                "the unseen classes need two images or more"
            )

    @property
    def n_without_match(self) -> int:
        """How many queries have no relevant image: none of their class in the gallery but themselves."""
        gallery = self.frame.loc[self.frame["gallery"], "label"].value_counts()
        queries = self.frame[self.frame["query"]]
        others = queries["label"].map(gallery).fillna(0) - queries["gallery"].astype(int)
        return int((others <= 0).sum())
