"""The identity of a run: which values change the fingerprint, which the digest of the method, and which neither."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dmlbench.config.compose import compose
from dmlbench.config.identity import digest
from dmlbench.config.jobs import Job
from dmlbench.config.plan import Plan, method_columns
from dmlbench.config.schema import Protocol
from dmlbench.errors import UserError
from dmlbench.results.columns import column, fingerprint, method_digest
from dmlbench.runs import experiment
from dmlbench.runs.checks import check_composed
from dmlbench.runs.prepare import prepare
from dmlbench.runs.runner import announcement, run_job
from dmlbench.system.atomic_write import atomic_directory

DIGITS = [
    "dataset=digits",
    "dataset.make.images_per_class=2",
    "dataset.train_images=50",
    "dataset.query_images=50",
    "dataset.gallery_images=50",
]
# Another value for each field of the protocol. A new field without an entry fails the first test.
OTHER: dict[str, Any] = {
    "version": 2,
    "epochs": 9,
    "batch_size": 32,
    "embedding_dim": 32,
    "image_px": 28,
    "resize_px": 40,
    "exif_orientation": "applied",
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
    "head_only_epochs": 1,
    "clip_grad_norm": 1,
    "clip_grad_value": 1,
    "mixed_precision": "false",
    "threads": 2,
    "selection": "validation protocol.fold=0",
    "fold": "all",
    "folds": 5,
    "steps_per_epoch": 7,
    "validate_every": 2,
    "patience": "3 protocol.selection=validation protocol.fold=0",
    "selection_metric": "nmi protocol.selection=validation protocol.fold=0",
    "clusters_per_class": 2,
    "evaluation_queries": 20,
    "full_gallery": "true",
}
# The name of its file; a value that needs boxes, which tests/data/test_decoded_cache.py covers; two that the data set has,
# which tests/runs/test_staysafe.py covers.
SINGLE = {"name", "chunk_size", "crop_to_box", "split", "recall_at"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def plan(data: Path, *overrides: str) -> Plan:
    return prepare(compose(["loss=triplet", *DIGITS, f"paths.data={data}", *overrides]))[0]


@pytest.fixture(scope="module")
def base(data: Path) -> Plan:
    return plan(data)


def test_every_field_of_the_protocol_has_another_value_in_this_file() -> None:
    assert {spec.name for spec in dataclasses.fields(Protocol)} == set(OTHER) | SINGLE


@pytest.mark.parametrize(
    "override",
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
def test_a_value_that_must_be_equal_changes_the_fingerprint_but_not_the_method(data: Path, base: Plan, override: str) -> None:
    other = plan(data, *override.split())
    assert other.fingerprint != base.fingerprint
    assert other.method_digest == base.method_digest


@pytest.mark.parametrize(
    "override",
    ["loss.make.margin=0.3", "loss.samples_per_class=2", "loss.lr_scale=7", "loss.weight_decay=0", "loss=contrastive"],
)
def test_a_value_of_the_method_changes_its_digest_but_not_the_fingerprint(data: Path, base: Plan, override: str) -> None:
    other = plan(data, override)
    assert other.method_digest != base.method_digest
    assert other.fingerprint == base.fingerprint


@pytest.mark.parametrize("override", ["loss.lr=0.001", "loss.head_lr_scale=1"])
def test_a_learning_rate_of_the_method_changes_its_digest_and_puts_the_row_apart(data: Path, base: Plan, override: str) -> None:
    other = plan(data, override)
    assert other.method_digest != base.method_digest
    assert {name for name, value in other.shared.items() if base.shared[name] != value} == {"lr_from"}
    assert other.fingerprint != base.fingerprint


def test_a_row_without_the_columns_of_learning_rates_keeps_its_identity(base: Plan) -> None:
    method, shared = method_columns(base.method), dict(base.shared)
    new = {"loss_lr": None, "loss_head_lr_scale": None, "loss_proxy_init": "constructor"}
    assert {name: method.pop(name) for name in new} == new
    assert shared.pop("lr_from") == "protocol"
    assert (fingerprint(shared), method_digest(method)) == (base.fingerprint, base.method_digest)


@pytest.mark.parametrize(
    "override",
    [
        "workers=3",
        "oracle=true",
        "dataset.cache=memmap",
        "paths.runs=elsewhere",
        "loss.label=Other",
        "dataset.label=Other",
        "trunk.label=O",
        "+loss.search.lr_scale={low: 1, high: 2}",
    ],
)
def test_a_value_that_does_not_affect_results_does_not_change_the_run_id(data: Path, base: Plan, override: str) -> None:
    assert plan(data, override).run_id == base.run_id


def test_the_seed_changes_the_run_id_alone(data: Path, base: Plan) -> None:
    other = plan(data, "seed=1")
    assert (base.fingerprint, base.method_digest) == (other.fingerprint, other.method_digest)
    assert base.run_id != other.run_id
    assert base.folder.parent == other.folder.parent


def test_the_seven_losses_and_the_untrained_trunk_share_one_fingerprint(data: Path) -> None:
    losses = ["untrained", "contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface"]
    plans = [plan(data, f"loss={loss}") for loss in losses]
    assert len({made.fingerprint for made in plans}) == 1
    assert len({made.method_digest for made in plans}) == len(losses)


def test_the_fingerprint_is_the_digest_of_the_columns_by_which_tables_group_rows(base: Plan) -> None:
    assert all(column(name).role == "shared" for name in base.shared)
    assert not any(column(name).role == "shared" for name in method_columns(base.method))
    counted = {name: value for name, value in base.shared.items() if column(name).since == 1 or value != column(name).before}
    assert base.fingerprint == digest(counted)[:8]


def test_an_explicit_resize_that_equals_the_default_is_the_same_protocol(data: Path, base: Plan) -> None:
    assert plan(data, "protocol.resize_px=36").run_id == base.run_id


def test_any_protocol_can_be_combined_with_any_data_set_and_overridden(data: Path) -> None:
    made = plan(data, "protocol=standard", "optimizer=rmsprop", "trunk=resnet18", "trunk.weights=none")
    assert (made.protocol.name, made.shared["optimizer"], made.trunk.name) == ("standard", "rmsprop", "resnet18")
    assert made.protocol.image_px == 227
    assert made.protocol.resized_px == 256


def test_the_overrides_and_configuration_files_of_a_plan_are_in_its_row_but_not_in_its_identity(data: Path, base: Plan) -> None:
    changed = plan(data, "optimizer=sgd", "protocol.epochs=9")
    row = experiment.pending_row(changed)
    assert {"optimizer=sgd", "protocol.epochs=9", "loss=triplet"} <= set(json.loads(str(row["overrides"])))
    assert len(json.loads(str(row["config_files"]))["loss/triplet"]) == 64
    written_out = plan(data, "optimizer=adamw", "protocol.epochs=8")
    assert experiment.pending_row(written_out)["overrides"] == experiment.pending_row(base)["overrides"]
    assert written_out.run_id == base.run_id
    cached = plan(data, "dataset.cache=memmap")
    assert experiment.pending_row(cached)["overrides"] != experiment.pending_row(base)["overrides"]
    assert cached.run_id == base.run_id


def test_the_announcement_describes_the_run(data: Path) -> None:
    made, split = prepare(compose(["loss=arcface", *DIGITS, f"paths.data={data}"]))
    text = "\n".join(announcement(made, split))
    for part in (
        "train 50 images of 25 classes; test 50 query and 50 gallery images of 25 classes",
        "ConvNet from scratch",
        "quick v1: 8 epochs, batch 64, 64-d, crop 32 of 36 px, adamw with learning rate 0.001, on",
        "ArcFace (classification, 4 images per class, loss learning rate 0.01)",
        "25 training classes have fewer than 4 images",
        made.run_id,
    ):
        assert part in text


def test_a_misspelt_path_is_refused(data: Path) -> None:
    with pytest.raises(UserError, match=r"paths\.rums is not known; did you mean 'runs'"):
        plan(data, "+paths.rums=x")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+loss.make.margn=0.1", r"loss\.make\.margn is not an argument of .*; did you mean 'margin'"),
        ("+loss.miner.margn=0.1", r"loss\.miner\.margn is not an argument of .*; did you mean 'margin'"),
        ("+trunk.make.chanels=[8]", r"trunk\.make\.chanels is not an argument of .*; did you mean 'channels'"),
        ("+dataset.make.image=3", r"dataset\.make\.image is not an argument of"),
        ("+optimizer.weigth_decay=0", r"optimizer\.weigth_decay is not an argument of .*; did you mean 'weight_decay'"),
        ("+sampler.samples=3", r"sampler\.samples is not an argument of"),
        ("loss.make._target_=nope.Loss", r"loss\.make\._target_ 'nope\.Loss' cannot be imported"),
    ],
)
def test_the_constructors_of_a_configuration_are_checked_without_its_data(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_composed(compose(["loss=triplet", "paths.data=nowhere", override]))


def test_a_number_of_classes_that_only_the_files_tell_passes_the_check() -> None:
    check_composed(compose(["loss=arcface", "dataset=folder", "dataset.root=nowhere"]))


def test_a_crash_on_a_full_disk_is_reported_although_it_cannot_be_written_to_a_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    composed = compose(["loss=contrastive", *DIGITS, f"paths.data={data}", f"paths.runs={tmp_path}"])
    monkeypatch.setattr("dmlbench.runs.runner.atomic_write", full)
    outcome = run_job(Job("contrastive", composed), wait=True, report=lambda line: None)
    assert outcome.status == "crash"
    assert outcome.error is not None
    assert "No space left on device" in outcome.error
    assert "error.txt" not in outcome.error


def _generate_and_die(folder: Path) -> None:
    with atomic_directory(folder):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_removes_what_killed_processes_left_of_its_data_and_no_other_file(tmp_path: Path) -> None:
    composed = compose(["dataset=synthetic", "dataset.make.classes=4", f"paths.data={tmp_path}", "protocol.batch_size=8"])
    prepare(composed)
    (generated,) = tmp_path.glob("synthetic-*")
    for folder in (generated.with_name("new"), tmp_path / "cache" / "new"):
        writer = multiprocessing.get_context("fork").Process(target=_generate_and_die, args=(folder,))
        writer.start()
        writer.join(60)
        assert writer.exitcode == -signal.SIGKILL
    (left,) = tmp_path.glob(".new.*.tmp")
    left.rename(tmp_path / left.name.replace("new", generated.name))  # as if the killed process had generated the same data
    (other := tmp_path / ".letter.12345678.tmp").write_text("of another program")
    assert len(list(tmp_path.rglob("*.tmp"))) == 3
    prepare(composed)
    assert list(tmp_path.rglob("*.tmp")) == [other]
