"""Handwritten characters of eight alphabets: 242 classes without a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.archive import unpack
from dmlbench.data.datasets.generated import generate_once, require_integer
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.system.seeding import numpy_generator

ARCHIVE = Path(__file__).with_name("omniglot242.zip")
VERSION = 1  # raised with every change to the archive
TRAIN_ALPHABETS = ("Balinese", "Early_Aramaic", "Greek", "Korean")


def omniglot(root: str, split: str = "alphabets", split_seed: int = 0) -> Split:
    """Unpack the characters at the first call, and split them by alphabet.

    All characters of an alphabet are either training or test classes, so test classes come from unseen alphabets. Test images
    are query and gallery.

    Args:
        root: Directory of generated data sets. The images are written into it at the first call.
        split: `alphabets` trains on Balinese, Early Aramaic, Greek and Korean (110 classes) and tests on Katakana, Latin,
            Sanskrit and Tagalog (132 classes); `random_alphabets` draws the four training alphabets.
        split_seed: Seed of `random_alphabets`.

    Returns:
        The split, with paths relative to `root`. Its column `group` is the alphabet.

    Raises:
        UserError: `split` or `split_seed` has another value.

    Source:
        Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program induction, Science 2015;
        the two small background sets of https://github.com/brendenlake/omniglot (MIT).
    """
    require_integer("omniglot", "split_seed", split_seed, 0, 2**63 - 1)
    folder, listing = generate_once(Path(root), "omniglot", {"version": VERSION}, _unpack)
    alphabets = listing["class_name"].str.split("/").str[0]
    train = alphabets.isin(_training_alphabets(split, split_seed, sorted(alphabets.unique())))
    frame = pd.DataFrame(
        {
            "path": f"{folder}/" + listing["path"],
            "label": listing["class_id"].astype(np.int64),
            "class_name": listing["class_name"],
            "group": alphabets,
            "train": train,
            "val": False,
            "query": ~train,
            "gallery": ~train,
        }
    )
    names = (", ".join(alphabets[rows].drop_duplicates().str.replace("_", " ")) for rows in (train, ~train))
    note = "training alphabets: {}; test alphabets: {}".format(*names)
    return Split(frame, Path(root), notes=(note,), origin="published")


def _training_alphabets(split: str, split_seed: int, alphabets: list[str]) -> tuple[str, ...]:
    if split == "alphabets":
        return TRAIN_ALPHABETS
    if split == "random_alphabets":
        drawn = numpy_generator(split_seed, "omniglot_alphabets").permutation(len(alphabets))
        return tuple(alphabets[index] for index in drawn[: len(alphabets) // 2])
    raise UserError(f"dataset.split is {split}, but omniglot has the splits alphabets and random_alphabets")


def _unpack(folder: Path) -> pd.DataFrame:
    unpack([ARCHIVE], folder)
    listing = pd.read_csv(folder / "omniglot242" / "labels.csv", dtype=str)
    return listing.assign(path="omniglot242/" + listing["file"])[["path", "class_id", "class_name"]]
