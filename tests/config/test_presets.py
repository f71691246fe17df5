"""A preset is a published recipe: method and protocol together, and the row names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmlbench.cli import run
from dmlbench.cli.sweep import parts
from dmlbench.config.compose import Composed, compose
from dmlbench.config.presets import available, expand_preset
from dmlbench.errors import UserError
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.runs.prepare import prepare


def composed(preset: str, loss: str, dataset: str, *overrides: str) -> Composed:
    return compose(expand_preset([f"preset={preset}", f"loss={loss}", f"dataset={dataset}", *overrides]))


# The shipped presets


# From the tables of the paper: the learning rate of the loss, and one hyper-parameter each.
@pytest.mark.parametrize(
    ("loss", "dataset", "lr", "argument", "value"),
    [
        ("arcface", "cub", 5.13e-3, "margin", 23.22),
        ("arcface", "cars", 7.39e-6, "scale", 49.5),
        ("cosface", "sop", 2.16e-3, "margin", 0.3364),
        ("proxy_nca", "cars", 4.43e-3, "softmax_scale", 7.97),
        ("softtriple", "sop", 8.68e-5, "la", 100),
        ("normalized_softmax", "cub", 4.46e-3, "temperature", 0.1087),
        ("margin", "cars", 1.11e-4, "beta", 1.3164),
    ],
)
def test_the_hyper_parameters_of_the_reality_check_are_those_published(
    loss: str, dataset: str, lr: float, argument: str, value: float
) -> None:
    one = composed("reality_check", loss, dataset)
    assert one.cfg.protocol.lr * one.cfg.loss.lr_scale == pytest.approx(lr)
    assert one.cfg.loss.make[argument] == value
    choices = (one.choices["protocol"], one.choices["trunk"], one.choices["optimizer"])
    assert choices == ("reality_check", "bn_inception", "rmsprop")


def test_a_preset_chooses_trunk_optimizer_and_sampler_and_the_command_line_overrides_it() -> None:
    one = composed("paper", "softtriple", "cars")
    assert (one.choices["trunk"], one.choices["optimizer"], one.choices["sampler"]) == ("bn_inception", "adam", "shuffle")
    assert (one.cfg.optimizer.eps, one.cfg.protocol.embedding_dim, one.cfg.loss.lr_scale) == (0.01, 64, 100)
    assert one.preset == "paper"
    other = composed("paper", "softtriple", "cars", "protocol.embedding_dim=512", "trunk=resnet50")
    assert (other.choices["trunk"], other.cfg.protocol.embedding_dim) == ("resnet50", 512)


def test_the_iterations_of_multi_similarity_are_epochs_of_a_hundred_steps() -> None:
    cfg = composed("paper", "multi_similarity", "cub").cfg
    protocol = cfg.protocol
    assert protocol.epochs * protocol.steps_per_epoch == 3000
    assert [k * protocol.step_epochs * protocol.steps_per_epoch for k in (1, 2)] == [1200, 2400]
    assert protocol.batch_size / cfg.loss.samples_per_class == 16


# Expansion


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["preset=paper", "loss=cosface", "dataset=cub"],
            r"^preset=paper has no file for loss=cosface dataset=cub; for dataset=cub it has loss=.*multi_similarity, ",
        ),
        (
            ["preset=paper", "loss=softtriple", "dataset=cub"],
            r"proxy_anchor, proxy_nca, .* and for loss=softtriple it has dataset=cars$",
        ),
        (["preset=paper", "loss=cosface", "dataset=digits"], r"dataset=digits; it is for dataset=cars, cub, inshop, sop$"),
        (["preset=papr"], r"^preset=papr is not known; did you mean 'paper'\?$"),
        (["preset=paper", "loss=softtriple,proxy_nca", "dataset=cars"], "needs one loss and one data set at a time"),
    ],
)
def test_a_preset_without_a_file_for_the_loss_and_the_data_set_is_refused_with_what_it_has(
    overrides: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        expand_preset(overrides)


def test_the_preset_none_is_no_preset() -> None:
    assert expand_preset(["preset=none", "seed=1"]) == expand_preset(["seed=1"]) == ["seed=1"]


def test_a_sweep_over_a_preset_runs_the_losses_that_it_has_for_the_data_set() -> None:
    losses = [part[-1] for part in parts(["preset=paper", "dataset=cub", "seed=0,1"], None)]
    assert losses == [f"loss={file.removesuffix('_cub')}" for file in available()["paper"] if file.endswith("_cub")]
    assert {"loss=batch_all", "loss=multi_similarity", "loss=normalized_softmax", "loss=proxy_nca"} < set(losses)
    named = parts(["preset=paper", "dataset=cars", "loss=softtriple,proxy_nca"], None)
    assert named == [["preset=paper", "dataset=cars", f"loss={loss}"] for loss in ("softtriple", "proxy_nca")]


# In rows


def test_a_preset_of_the_user_is_applied_and_named_in_the_row(tmp_path: Path) -> None:
    (tmp_path / "conf" / "preset" / "mine").mkdir(parents=True)
    text = "# @package _global_\n# Mine.\nprotocol:\n  lr: 0.005\nloss:\n  make: {margin: 0.3}\n"
    (tmp_path / "conf" / "preset" / "mine" / "triplet_synthetic.yaml").write_text(text)
    assert available(str(tmp_path / "conf"))["mine"] == ["triplet_synthetic"]
    dataset = ["dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=4", "dataset.make.image_px=32"]
    protocol = ["protocol.epochs=1", "protocol.batch_size=8", "trunk.make.channels=[4]"]
    arguments = [*dataset, "loss=triplet", *protocol, f"paths.data={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]
    assert run(["train", *arguments, "preset=mine", "--config-dir", str(tmp_path / "conf")]) == 0
    assert run(["train", *arguments]) == 0
    rows = {str(row["preset"]): row for row in map(read_row, find_rows(tmp_path / "runs"))}
    assert set(rows) == {"mine", "none"}
    assert (rows["mine"]["protocol_lr"], rows["mine"]["loss_make_margin"]) == (0.005, 0.3)
    assert rows["mine"]["fingerprint"] != rows["none"]["fingerprint"]


def test_compared_rows_must_agree_in_the_preset(tmp_path: Path) -> None:
    plan, _ = prepare(compose(["dataset=synthetic", "dataset.make.classes=4", f"paths.data={tmp_path}"]))
    assert plan.shared["preset"] == "none"
