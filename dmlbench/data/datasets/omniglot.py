"""Handwritten characters of eight alphabets: 242 classes without a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dmlbench.data.archive import unpack
from dmlbench.data.datasets.generated import generate_once, require_integer
from dmlbench.data.split import Split
from dmlbench.data.split_rules import refuse_unused_seed
from dmlbench.errors import UserError
from dmlbench.system.seeding import numpy_generator

ARCHIVE = Path(__file__).with_name("omniglot242.zip")
VERSION = 1  # raised with every change to the archive
# The largest alphabet of each family: East Asian (Katakana, Korean), Indic (Sanskrit, Balinese, Tagalog) and descended from
# Phoenician (Latin, Greek, Early Aramaic). Both sides have scripts of all families, and training has nearly half of all
# characters. The five alphabets of the test classes have 17 to 40 characters; a significance test needs five groups.
TRAIN_ALPHABETS = ("Japanese_(katakana)", "Latin", "Sanskrit")


def omniglot(root: str, split: str = "alphabets", split_seed: int = 0) -> Split:
    """Unpack the characters at the first call, and split them by alphabet.

    All characters of an alphabet are either training or test classes, so test classes come from unseen alphabets. Test images
    are query and gallery.

    Args:
        root: Directory of generated data sets. The images are written into it at the first call.
        split: `alphabets` trains on Katakana, Latin and Sanskrit (115 classes) and tests on Balinese, Early Aramaic, Greek,
            Korean and Tagalog (127 classes); `random` draws the three training alphabets.
        split_seed: Seed of `random`.

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
    return Split(frame, Path(root), notes=(note,), origin="published", group_kind="alphabet")


def _training_alphabets(split: str, split_seed: int, alphabets: list[str]) -> tuple[str, ...]:
    if split == "alphabets":
        refuse_unused_seed(split, split_seed)
        return TRAIN_ALPHABETS
    if split == "random":
        drawn = numpy_generator(split_seed, "omniglot_alphabets").permutation(len(alphabets))
        return tuple(alphabets[index] for index in drawn[: len(TRAIN_ALPHABETS)])
    raise UserError(f"dataset.split is {split}, but omniglot has the splits alphabets and random")


def _unpack(folder: Path) -> pd.DataFrame:
    unpack([ARCHIVE], folder)
    listing = pd.read_csv(folder / "omniglot242" / "labels.csv", dtype=str)
    return listing.assign(path="omniglot242/" + listing["file"])[["path", "class_id", "class_name"]]
