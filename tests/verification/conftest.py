"""Small real runs of all kinds, which several modules verify and change."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmlbench.cli import run
from dmlbench.results.row_files import find_rows

TINY = (
    *("dataset=folder", "protocol=quick", "trunk=convnet", "trunk.make.channels=[4,8]"),
    *("protocol.epochs=1", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)


def write_photos(root: Path, classes: int = 8, per_class: int = 5) -> None:
    """Write noise images, which differ more than the tints of their classes, to root/<class>/<image>."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class{label:02}"
        folder.mkdir(parents=True)
        colour = generator.integers(110, 146, 3)
        for k in range(per_class):
            pixels = np.clip(
                colour + generator.integers(-99, 100, (24, 24, 3)) + generator.integers(-30, 31, 3), 0, 255
            ).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make runs of all kinds; return their directory, which contains `runs/` and is not to be changed."""
    root = tmp_path_factory.mktemp("honest")
    write_photos(root / "photos")
    common = (*TINY, f"dataset.root={root}/photos", f"paths.runs={root}/runs", f"paths.data={root}/data")
    folds = ("protocol.fold=all", "protocol.folds=2", "protocol.batch_size=4", "loss.samples_per_class=2")
    drawn = ("protocol.evaluation_queries=12", "protocol.full_gallery=true")
    validated = (*folds[1:], "protocol.fold=0", "protocol.selection=validation", "dataset.split=random_classes")
    runs = str(root / "runs")
    assert run(["sweep", "loss=arcface", "seed=0,1", *common]) == 0
    assert run(["sweep", "loss=contrastive,untrained", *common]) == 0
    assert run(["train", "loss=triplet", *common, "protocol.lr=1e30"]) == 1
    [plain, *_] = find_rows(root / "runs" / "photos" / "contrastive")
    for overrides in (folds, drawn, validated):
        assert run(["train", "loss=contrastive", *common, *overrides]) == 0
    assert run(["evaluate", str(plain.parent), "--rerank", "k_reciprocal", "--rerank.k1", "3", "--rerank.k2", "2"]) == 0
    assert run(["evaluate", str(plain.parent), "--ks", "1,3,15", "--clusters", "2"]) == 0
    shutil.copy(plain.parent / "embeddings.safetensors", root / "theirs.safetensors")
    assert run(["evaluate", str(root / "theirs.safetensors"), "--name", "Their method", "--runs", runs]) == 0
    return root


@pytest.fixture
def runs(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the runs to `runs/` in the directory of the test."""
    shutil.copytree(honest / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Path("runs")
