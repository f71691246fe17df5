"""A row records the overrides that determine results, and the chosen files with their digests."""

from __future__ import annotations

import doctest
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from dmlbench.config import provenance as provenance_module
from dmlbench.config.compose import Composed, compose
from dmlbench.config.files import conf_dir
from dmlbench.config.jobs import all_jobs
from dmlbench.config.provenance import provenance, recorded_overrides

BEST_PRACTICE = {"protocol/best_practice", "protocol/standard"}


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


def overrides_of(*overrides: str, config_dir: Path | None = None) -> list[str]:
    return list(json.loads(str(provenance(compose(["loss=triplet", "dataset=cub", *overrides], config_dir))["overrides"])))


CHOICES = ["dataset=cub", "loss=triplet"]


@pytest.mark.parametrize(
    "override",
    [
        "protocol.lr=1e-4",
        "protocol.epochs=40",
        "protocol.head_lr_scale=10",
        "optimizer=adamw",
        "sampler=m_per_class",
        "protocol.exif_orientation=ignored",
        "protocol.resize_px=256",  # what null stands for
        "optimizer.eps=0.00000001",
        "tuning.trials=0",
        "dataset.on_unreadable=refuse",
    ],
)
def test_an_override_with_the_value_that_the_chosen_files_give_is_not_recorded(override: str) -> None:
    key, _, value = override.partition("=")
    if "." in key and key not in ("protocol.exif_orientation", "protocol.resize_px"):
        assert OmegaConf.select(compose(CHOICES).cfg, key) == pytest.approx(yaml.safe_load(value.replace("1e-4", "0.0001")))
    assert overrides_of(override) == CHOICES


@pytest.mark.parametrize(
    "override",
    [
        "protocol.lr=0.01",
        "protocol.exif_orientation=applied",
        "optimizer=sgd",
        "~optimizer.weight_decay",
        "loss.make.margin=1",
        "sampler.samples_per_class=4",  # the file refers to the loss, so the column differs
        "oracle=true",
        "optimizer.eps=1e-7",
    ],
)
def test_an_override_that_changes_a_value_is_recorded(override: str) -> None:
    assert len(overrides_of(override)) == 3


def test_what_a_frozen_trunk_replaces_is_not_recorded() -> None:
    overrides = ["protocol.flip=false", "protocol.trunk_frozen=true", "protocol.train_crop=center"]
    assert overrides_of(*overrides) == [*CHOICES, "protocol.trunk_frozen=true"]


def test_overrides_that_need_each_other_are_recorded() -> None:
    overrides = ["protocol.patience=3", "protocol.selection=validation"]
    assert overrides_of(*overrides) == [*CHOICES, *overrides]


def test_values_are_compared_with_those_of_the_chosen_optimizer() -> None:
    momentum = compose([*CHOICES, "optimizer=sgd"]).cfg.optimizer.momentum
    assert overrides_of("optimizer=sgd", f"optimizer.momentum={momentum}") == [*CHOICES, "optimizer=sgd"]
    assert overrides_of("optimizer=sgd", "optimizer.momentum=0.5") == [*CHOICES, "optimizer=sgd", "optimizer.momentum=0.5"]


def test_values_are_compared_with_those_of_the_users_own_file_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "protocol" / "own.yaml"
    file.parent.mkdir()
    for lr, recorded in ((0.5, []), (0.25, ["protocol.lr=0.5"])):
        file.write_text(f"defaults: [quick]\nlr: {lr}\n")
        assert overrides_of("protocol=own", "protocol.lr=0.5", config_dir=tmp_path) == [*CHOICES, "protocol=own", *recorded]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], []),  # the jobs have been made from the chosen files
        (["protocol.head_layers=[8]"], [("loss=triplet", "dataset=cars"), ("loss=contrastive", "dataset=cars")]),
    ],
    ids=["single values", "a list"],
)
def test_the_jobs_of_a_sweep_are_composed_at_most_once_more_per_choice_of_files(
    more: list[str], expected: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = all_jobs(["loss=triplet,contrastive", "seed=0,1", "dataset=cars", "protocol.lr=0.1,0.2,0.3", *more]).jobs
    composed: list[Sequence[str]] = []

    def counted(overrides: Sequence[str], *arguments: object) -> Composed:
        composed.append(overrides)
        return compose(overrides)

    monkeypatch.setattr(provenance_module, "compose", counted)
    for job in jobs:
        assert any(one.startswith("protocol.lr=0.") for one in json.loads(str(provenance(job.composed)["overrides"])))
    assert composed == expected


def test_provenance_names_inherited_files(tmp_path: Path) -> None:
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol" / "tiny.yaml").write_text("defaults:\n  - small\n  - _self_\nepochs: 1\n")
    (tmp_path / "protocol" / "small.yaml").write_text("defaults: [/protocol/quick]\nepochs: 2\n")
    for choice, inherited in (
        ("tiny", {"protocol/tiny", "protocol/small", "protocol/quick"}),
        ("best_practice", BEST_PRACTICE),
    ):
        columns = provenance(compose([f"protocol={choice}", "loss=triplet", "dataset=cub"], tmp_path))
        files = json.loads(str(columns["config_files"]))
        assert {name for name in files if name.startswith("protocol/")} == inherited
    assert files["protocol/standard"] == hashlib.sha256((conf_dir() / "protocol" / "standard.yaml").read_bytes()).hexdigest()


def test_provenance_names_the_file_of_a_preset() -> None:
    columns = provenance(compose(["+preset@_global_=paper/softtriple_cars", "loss=softtriple", "dataset=cars"]))
    assert "preset/paper/softtriple_cars" in json.loads(str(columns["config_files"]))


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(provenance_module).failed == 0
