"""Fixtures of the tests of the search application: runs on two small data sets, and the application over them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from photo_factory import write_photos
from web_helpers import Browserless

from dmlbench.cli import run
from dmlbench.web.app import create_app
from dmlbench.web.services import Settings

TINY = (
    *("protocol=quick", "trunk=convnet", "trunk.make.channels=[4,8]"),
    *("protocol.epochs=1", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)
HOSTILE_NAME = "class{:02} <b>&\"'"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with two directories of photos, and runs on them: two losses on `first`, one on `second`, and baselines."""
    directory = tmp_path_factory.mktemp("served")
    before = Path.cwd()
    os.chdir(directory)
    try:
        for number, (name, losses) in enumerate({"first": "contrastive,arcface", "second": "contrastive"}.items()):
            root = write_photos(directory / name, seed=number, name=HOSTILE_NAME)
            overrides = ["dataset=folder", f"dataset.root={root.name}", *TINY, f"paths.runs=runs/{name}"]
            assert run(["sweep", f"loss={losses}", *overrides]) == 0
        yield directory
    finally:
        os.chdir(before)


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runs and photos in the directory of the test, which is the current directory."""
    directory = tmp_path / "served"
    shutil.copytree(trained, directory)
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture(scope="module")
def shared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browserless]:
    """A client of an application over runs that the test does not change."""
    before = Path.cwd()
    os.chdir(trained)
    app = create_app(Settings([Path("runs")], tmp_path_factory.mktemp("web")))
    try:
        yield Browserless(app)
    finally:
        app.extensions["dmlbench"].decoder.close()
        os.chdir(before)


@pytest.fixture
def client(place: Path) -> Iterator[Browserless]:
    """A client of an application over the copy of the runs."""
    app = create_app(Settings([Path("runs")], Path("runs/.web")))
    yield Browserless(app)
    app.extensions["dmlbench"].decoder.close()
