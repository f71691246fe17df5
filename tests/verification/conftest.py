"""Small real runs of all kinds, which several modules verify and change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from photo_factory import write_photos

from dmlbench.cli import run
from dmlbench.results.row_files import find_rows

TINY = (
    *("dataset=folder", "protocol=quick", "trunk=convnet", "trunk.make.channels=[4,8]"),
    *("protocol.epochs=1", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make runs of all kinds; return their directory, which contains `runs/` and is not to be changed."""
    root = tmp_path_factory.mktemp("honest")
    # Images differ more than classes, so metrics are far from their limits.
    write_photos(root / "photos", colours=(110, 145), noise=99, tint=30)
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
