"""The embedded data set: handwritten characters whose test classes come from unseen alphabets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dmlbench.data.datasets.omniglot import ARCHIVE, omniglot
from dmlbench.data.images import read_image
from dmlbench.data.split import Split
from dmlbench.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("omniglot")


@pytest.fixture(scope="module")
def split(root: Path) -> Split:
    return omniglot(str(root))


def test_the_embedded_archive_is_the_published_one_and_its_licence_lies_beside_it() -> None:
    assert (
        hashlib.sha256(ARCHIVE.read_bytes()).hexdigest() == "e441825355d8c7708757aedc0d04367c55bc1dd6a7a9434d3db2a421c6391069"
    )
    assert "Copyright (c) 2015 Brenden Lake" in ARCHIVE.with_name("omniglot242.LICENSE.txt").read_text()


def test_it_has_the_counts_of_its_source(split: Split) -> None:
    assert split.facts == {
        "images": 4840,
        "train_classes": 115,
        "train_images": 2300,
        "test_classes": 127,
        "query_images": 2540,
        "gallery_images": 2540,
    }
    assert set(split.frame["label"].value_counts()) == {20}


def test_the_largest_alphabet_of_each_family_is_for_training_and_the_five_others_are_for_testing(split: Split) -> None:
    frame = split.frame
    train, test = (set(frame.loc[frame[role], "group"]) for role in ("train", "query"))
    assert train == {"Japanese_(katakana)", "Latin", "Sanskrit"}
    assert test == {"Balinese", "Early_Aramaic", "Greek", "Korean", "Tagalog"}
    sizes = frame.groupby("group")["label"].nunique()
    for family in (("Japanese_(katakana)", "Korean"), ("Sanskrit", "Balinese", "Tagalog"), ("Latin", "Greek", "Early_Aramaic")):
        assert sizes[list(family)].idxmax() == family[0]
        assert family[0] in train
    assert (frame["class_name"].str.split("/").str[0] == frame["group"]).all()


def test_an_image_is_black_strokes_on_white(split: Split) -> None:
    pixels = read_image(split.paths()[0])
    assert pixels.shape == (3, 105, 105)
    assert set(pixels.unique().tolist()) == {0, 255}
    assert (pixels == 255).float().mean() > 0.8


def test_it_is_unpacked_once(root: Path, split: Split) -> None:
    before = split.paths()[0].stat().st_mtime_ns
    assert omniglot(str(root)).digest == split.digest
    assert split.paths()[0].stat().st_mtime_ns == before


def test_other_alphabets_are_drawn_by_the_seed_of_the_split(root: Path, split: Split) -> None:
    drawn = [omniglot(str(root), "random", seed) for seed in (0, 1, 0)]
    groups = [set(one.frame.loc[one.frame["train"], "group"]) for one in drawn]
    assert groups[0] == groups[2] != groups[1]
    assert all(len(one) == 3 for one in groups)
    assert len({one.digest for one in (split, *drawn)}) == 3


@pytest.mark.parametrize(("split", "seed", "message"), [("half", 0, "splits alphabets and random"), ("alphabets", -1, "0")])
def test_another_split_or_seed_is_refused(root: Path, split: str, seed: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        omniglot(str(root), split, seed)
