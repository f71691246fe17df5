"""A preset is a paper's own recipe: method and protocol together, and the row says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from dmlbench.cli.training import sweep_words
from dmlbench.launch import compose, method_of, prepare
from omegaconf import OmegaConf

from dmlbench.cli import run
from dmlbench.config.files import conf_dir
from dmlbench.config.presets import available, spelt_out
from dmlbench.config.schema import Dataset, Protocol
from dmlbench.config.typed import typed
from dmlbench.errors import UserError
from dmlbench.results.row_files import find_rows, read_row

FILES = sorted((conf_dir() / "preset").glob("*/*.yaml"))
DATASETS = ("cub", "cars", "sop", "inshop")


def parts(file: Path) -> tuple[str, str, str]:
    """Preset, loss and data set of a file."""
    loss, _, dataset = file.stem.rpartition("_")
    return file.parent.name, loss, dataset


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_preset_composes_to_a_method_and_a_protocol(file: Path) -> None:
    preset, loss, dataset = parts(file)
    assert dataset in DATASETS
    cfg, choices = compose(spelt_out([f"preset={preset}", f"loss={loss}", f"dataset={dataset}"]))
    values = {str(key): value for key, value in OmegaConf.to_container(cfg.protocol, resolve=True).items()}  # type: ignore[union-attr]
    protocol = typed(Protocol, "protocol", {"name": choices["protocol"], **values})
    facts = Dataset(dataset, dataset, (1,), {}, train_classes=cfg.dataset.train_classes)
    assert method_of(cfg, loss, facts, protocol).make


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_preset_opens_with_its_paper_its_own_command_and_its_source(file: Path) -> None:
    preset, loss, dataset = parts(file)
    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert "arXiv:" in lines[1] or "CVPR" in lines[1]
    assert lines[2] == f"#   dmlbench train preset={preset} loss={loss} dataset={dataset}"
    assert any(line.startswith("# Values: ") for line in lines)


# From the reference's tables: the learning rate of the loss's own parameters, and one value each.
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
def test_the_reality_checks_values_are_those_published(loss: str, dataset: str, lr: float, argument: str, value: float) -> None:
    cfg, choices = compose(spelt_out(["preset=reality_check", f"loss={loss}", f"dataset={dataset}"]))
    assert cfg.protocol.lr * cfg.loss.lr_scale == pytest.approx(lr)
    assert cfg.loss.make[argument] == value
    assert (choices["protocol"], choices["trunk"], choices["optimizer"]) == ("reality_check", "bn_inception", "rmsprop")


def test_a_papers_recipe_brings_trunk_optimizer_and_sampler_and_yields_to_the_command_line() -> None:
    words = ["preset=paper", "loss=softtriple", "dataset=cars"]
    cfg, choices = compose(spelt_out(words))
    assert (choices["trunk"], choices["optimizer"], choices["sampler"]) == ("bn_inception", "adam", "shuffle")
    assert (cfg.optimizer.eps, cfg.protocol.embedding_dim, cfg.loss.lr_scale) == (0.01, 64, 100)
    cfg, choices = compose(spelt_out([*words, "protocol.embedding_dim=512", "trunk=resnet50"]))
    assert (choices["trunk"], cfg.protocol.embedding_dim) == ("resnet50", 512)


def test_multi_similaritys_iterations_are_epochs_of_a_hundred_steps() -> None:
    cfg, _ = compose(spelt_out(["preset=paper", "loss=multi_similarity", "dataset=cub"]))
    protocol = cfg.protocol
    assert protocol.epochs * protocol.steps_per_epoch == 3000
    assert [k * protocol.step_epochs * protocol.steps_per_epoch for k in (1, 2)] == [1200, 2400]
    assert protocol.batch_size / cfg.loss.samples_per_class == 16


def test_a_preset_that_has_nothing_for_the_loss_says_what_it_has() -> None:
    with pytest.raises(UserError, match=r"nothing for loss=cosface dataset=cub; it has, for cub: multi_similarity, normalized"):
        spelt_out(["preset=paper", "loss=cosface", "dataset=cub"])
    with pytest.raises(UserError, match=r"proxy_anchor, proxy_nca and for softtriple: cars$"):
        spelt_out(["preset=paper", "loss=softtriple", "dataset=cub"])
    with pytest.raises(UserError, match=r"dataset=digits; it is for cars, cub, inshop, sop$"):
        spelt_out(["preset=paper", "loss=cosface", "dataset=digits"])
    with pytest.raises(UserError, match=r"preset=papr is not known; did you mean 'paper'"):
        spelt_out(["preset=papr"])
    with pytest.raises(UserError, match="takes one loss and one data set at a time"):
        spelt_out(["preset=paper", "loss=softtriple,proxy_nca", "dataset=cars"])


def test_no_preset_and_the_preset_none_are_the_same_words() -> None:
    assert spelt_out(["preset=none", "seed=1"]) == spelt_out(["seed=1"]) == ["seed=1"]


def test_a_sweep_over_a_preset_runs_the_losses_that_it_has_for_the_data_set() -> None:
    losses = [part[-1] for part in sweep_words(["preset=paper", "dataset=cub", "seed=0,1"])]
    assert losses == ["loss=multi_similarity", "loss=normalized_softmax", "loss=proxy_anchor", "loss=proxy_nca"]
    named = sweep_words(["preset=paper", "dataset=cars", "loss=softtriple,proxy_nca"])
    assert named == [["--multirun", "preset=paper", "dataset=cars", f"loss={loss}"] for loss in ("softtriple", "proxy_nca")]


PROTOCOL = "# @package _global_\n# Mine.\nprotocol:\n  lr: 0.005\nloss:\n  make: {margin: 0.3}\n"


def test_ones_own_preset_lies_beside_ones_own_losses_and_stands_in_the_row(tmp_path: Path) -> None:
    (tmp_path / "conf" / "preset" / "mine").mkdir(parents=True)
    (tmp_path / "conf" / "preset" / "mine" / "triplet_synthetic.yaml").write_text(PROTOCOL)
    assert available(str(tmp_path / "conf"))["mine"] == ["triplet_synthetic"]
    small = ["dataset=synthetic", "dataset.make.classes=8", "dataset.make.images_per_class=4", "dataset.make.image_px=32"]
    words = [
        *small,
        "loss=triplet",
        "protocol.epochs=1",
        "protocol.batch_size=8",
        f"paths.data={tmp_path}",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    assert run(["train", *words, "preset=mine", "--config-dir", str(tmp_path / "conf")]) == 0
    assert run(["train", *words]) == 0
    rows = {str(row["preset"]): row for row in map(read_row, find_rows(tmp_path / "runs"))}
    assert set(rows) == {"mine", "none"}
    assert (rows["mine"]["protocol_lr"], rows["mine"]["loss_make_margin"]) == (0.005, 0.3)
    assert rows["mine"]["fingerprint"] != rows["none"]["fingerprint"]


def test_the_preset_is_a_shared_column() -> None:
    plan, _ = prepare(*compose(["dataset=synthetic"]))
    assert plan.shared["preset"] == "none"
