"""A row records the overrides that determine results, and the chosen files with their digests."""

from __future__ import annotations

import doctest
import hashlib
import json
from pathlib import Path

from dmlbench.config import provenance as provenance_module
from dmlbench.config.compose import compose, provenance
from dmlbench.config.files import conf_dir
from dmlbench.config.provenance import recorded_overrides


def test_recorded_overrides_are_sorted_and_only_the_last_of_each_key_counts() -> None:
    overrides = ["protocol.lr=1e-3", "loss=triplet", "+optimizer.amsgrad=true", "protocol.lr=0.1", "~loss.miner"]
    assert recorded_overrides(overrides) == ["loss=triplet", "~loss.miner", "optimizer.amsgrad=true", "protocol.lr=0.1"]


def test_values_of_recorded_overrides_are_written_as_in_yaml() -> None:
    overrides = ["protocol.lr=1e-3", "protocol.flip=TRUE", "protocol.resize_px=null", "dataset.recall_at=[1,2]"]
    expected = ["dataset.recall_at=[1,2]", "protocol.flip=true", "protocol.lr=0.001", "protocol.resize_px=null"]
    assert recorded_overrides(overrides) == expected


def test_overrides_that_only_determine_how_a_run_is_executed_are_not_recorded() -> None:
    execution = ["seed=3", "device=cpu", "workers=2", "retry=failed", "sweep=seven", "paths.data=d", "hydra/launcher=joblib"]
    assert recorded_overrides([*execution, "protocol.threads=2"]) == ["protocol.threads=2"]


def test_provenance_names_the_chosen_files_with_their_sha256(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("kind: none\n")
    columns = provenance(compose(["loss=mine", "dataset=cub", "protocol.lr=0.1", "seed=2"], tmp_path))
    files = json.loads(str(columns["config_files"]))
    chosen = ["dataset/cub", "loss/mine", "optimizer/adamw", "protocol/standard", "sampler/m_per_class", "trunk/resnet50"]
    assert list(files) == chosen
    assert files["loss/mine"] == hashlib.sha256(b"kind: none\n").hexdigest()
    assert files["protocol/standard"] == hashlib.sha256((conf_dir() / "protocol" / "standard.yaml").read_bytes()).hexdigest()
    assert json.loads(str(columns["overrides"])) == ["dataset=cub", "loss=mine", "protocol.lr=0.1"]


def test_provenance_names_the_file_of_a_preset() -> None:
    columns = provenance(compose(["+preset@_global_=paper/softtriple_cars", "loss=softtriple", "dataset=cars"]))
    assert "preset/paper/softtriple_cars" in json.loads(str(columns["config_files"]))


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(provenance_module).failed == 0
