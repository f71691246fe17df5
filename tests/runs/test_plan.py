"""What a run is called: which fields move the fingerprint, which the method's digest, and which neither."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest
from dmlbench.launch import announcement, compose, prepare, run_job
from dmlbench.rows import is_shared

from dmlbench.config.identity import digest
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol
from dmlbench.errors import UserError

DIGITS = [
    "dataset.make.images_per_class=2",
    "dataset.train_images=100",
    "dataset.query_images=100",
    "dataset.gallery_images=100",
]
# Another value for each field of the protocol; a new field without an entry here fails the test below.
OTHER: dict[str, Any] = {
    "version": 2,
    "epochs": 9,
    "batch_size": 32,
    "embedding_dim": 32,
    "image_px": 28,
    "resize_px": 40,
    "train_crop": "center",
    "crop_scale": "[0.5,1]",
    "crop_ratio": "[0.5,2]",
    "flip": "true",
    "pooling": "max",
    "head_layers": "[16]",
    "head_norm": "layer",
    "trunk_frozen": "true",
    "freeze_batch_norm": "true",
    "lr": 0.5,
    "head_lr_scale": 3,
    "schedule": "step",
    "step_epochs": 3,
    "step_gamma": 0.1,
    "warmup_epochs": 1,
    "clip_grad_norm": 1,
    "mixed_precision": "false",
    "threads": 2,
    "selection": "validation protocol.fold=0",
    "fold": "all",
    "folds": 5,
    "steps_per_epoch": 7,
    "validate_every": 2,
    "patience": "3 protocol.selection=validation protocol.fold=0",
}
SINGLE = {"name", "crop_to_box"}  # the file's own name; what needs boxes, tried in test_cache.py


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def plan(data: Path, *words: str) -> Plan:
    return prepare(*compose(["loss=triplet", *DIGITS, f"paths.data={data}", *words]))[0]


def test_every_field_of_the_protocol_is_tried_below() -> None:
    assert {spec.name for spec in dataclasses.fields(Protocol)} == set(OTHER) | SINGLE


@pytest.mark.parametrize(
    "word",
    [
        *(f"protocol.{name}={value}" for name, value in OTHER.items()),
        "optimizer=sgd",
        "optimizer.weight_decay=0.5",
        "sampler=shuffle",
        "sampler.samples_per_class=2",
        "trunk.make.channels=[8,8]",
        "trunk.mean=[0,0,0]",
        "trunk.input_range=255",
        "trunk.channel_order=BGR",
        "dataset.split_seed=1",
        "dataset.name=other",
        "dataset.recall_at=[1,10]",
    ],
)
def test_what_must_be_equal_moves_the_fingerprint_and_not_the_method(data: Path, word: str) -> None:
    base, other = plan(data), plan(data, *word.split())
    assert other.fingerprint != base.fingerprint
    assert other.method.digest == base.method.digest


@pytest.mark.parametrize(
    "word", ["loss.make.margin=0.3", "loss.samples_per_class=2", "loss.lr_scale=7", "loss.weight_decay=0", "loss=contrastive"]
)
def test_what_is_the_methods_own_moves_its_digest_and_not_the_fingerprint(data: Path, word: str) -> None:
    base, other = plan(data), plan(data, word)
    assert other.method.digest != base.method.digest
    assert other.fingerprint == base.fingerprint


@pytest.mark.parametrize(
    "word",
    [
        "workers=3",
        "oracle=true",
        "dataset.cache=memmap",
        "paths.runs=elsewhere",
        "loss.label=Other",
        "dataset.label=Other",
        "trunk.label=O",
    ],
)
def test_what_moves_no_number_moves_no_name(data: Path, word: str) -> None:
    assert plan(data, word).run_id == plan(data).run_id


def test_the_seed_moves_the_run_alone(data: Path) -> None:
    base, other = plan(data), plan(data, "seed=1")
    assert (base.fingerprint, base.method.digest) == (other.fingerprint, other.method.digest)
    assert base.run_id != other.run_id
    assert base.folder.parent == other.folder.parent


def test_the_seven_losses_share_one_fingerprint(data: Path) -> None:
    losses = ["untrained", "contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface"]
    plans = [plan(data, f"loss={loss}") for loss in losses]
    assert len({made.fingerprint for made in plans}) == 1
    assert len({made.method.digest for made in plans}) == len(losses)


def test_the_fingerprint_is_the_digest_of_just_the_columns_that_a_table_groups_by(data: Path) -> None:
    made = plan(data)
    assert all(is_shared(column) for column in made.shared)
    assert not any(is_shared(column) for column in made.method.columns)
    assert made.fingerprint == digest(made.shared)[:8]


def test_a_resize_that_is_given_as_it_would_follow_is_the_same_protocol(data: Path) -> None:
    assert plan(data, "protocol.resize_px=36").run_id == plan(data).run_id


def test_a_protocol_may_be_tried_on_any_data_set_and_yields_to_the_command_line(data: Path) -> None:
    made = plan(data, "protocol=standard", "optimizer=rmsprop", "trunk=resnet18", "trunk.weights=none")
    assert (made.protocol.name, made.shared["optimizer"], made.trunk.name) == ("standard", "rmsprop", "resnet18")
    assert made.protocol.image_px == 227
    assert made.protocol.resized_px == 256


def test_the_announcement_says_what_will_run(data: Path) -> None:
    made, split = prepare(*compose(["loss=arcface", *DIGITS, f"paths.data={data}"]))
    said = "\n".join(announcement(made, split))
    for part in (
        "train 100 images of 50 classes; query 100 and gallery 100 images of 50",
        "ConvNet from scratch",
        "quick v1: 8 epochs, batch 64, 64-d, crop 32 of 36 px, adamw at 0.001",
        "ArcFace (classification, 4 images a class, own learning rate 0.1)",
        "50 training classes have fewer than 4 images",
        made.run_id,
    ):
        assert part in said


def test_a_misspelt_path_is_refused(data: Path) -> None:
    with pytest.raises(UserError, match=r"paths\.rums is not known; did you mean 'runs'"):
        plan(data, "+paths.rums=x")


def test_an_accident_on_a_full_disk_is_told_though_it_cannot_be_written_down(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cfg, choices = compose(["loss=contrastive", *DIGITS, f"paths.data={data}", f"paths.runs={tmp_path}"])
    monkeypatch.setattr("dmlbench.launch.write_text", full)
    outcome = run_job(cfg, choices, wait=True, tell=lambda line: None)
    assert outcome.status == "accident"
    assert outcome.error is not None
    assert "No space left on device" in outcome.error
    assert "error.txt" not in outcome.error
