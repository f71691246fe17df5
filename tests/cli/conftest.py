"""Fixtures of the tests of the command line: an empty directory for each test, and a directory of small images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from cli_helpers import Photos, on_photos
from photo_factory import write_photos

from dmlbench.cli import run


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in an empty directory, and restore the search path of modules after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    """A function that writes a directory of images: 8 classes of 5 images by default, the first half for training."""

    def make(classes: int = 8, per_class: int = 5, root: str = "photos") -> Path:
        return write_photos(tmp_path / root, classes, per_class)

    return make


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with photos/ and the runs of a sweep over contrastive and arcface with two seeds; not to be changed."""
    directory = tmp_path_factory.mktemp("swept")
    overrides = on_photos(write_photos(directory / "photos"), f"paths.runs={directory}/runs", f"paths.data={directory}/data")
    assert run(["sweep", "loss=contrastive,arcface", "seed=0,1", *overrides]) == 0
    return directory


@pytest.fixture
def runs(swept: Path, tmp_path: Path) -> Path:
    """A copy of the runs of `swept` as `runs/` in the directory of the test."""
    shutil.copytree(swept / "runs", tmp_path / "runs")
    return Path("runs")
