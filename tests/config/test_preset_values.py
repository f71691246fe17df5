"""Every shipped preset against the values of its authors, written down here independently of the configuration files.

Learning rates are absolute, margins and temperatures in the unit of the constructor. Sources: the authors' repositories for
`paper` (named in each file), and docs/papers/mlrc.md of powerful-benchmarker for `reality_check`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dmlbench.config.compose import Settings, compose, resolve
from dmlbench.config.files import conf_dir
from dmlbench.config.presets import available, expand_preset
from dmlbench.losses.objective import build_objective
from dmlbench.losses.proxies import copy_proxies

# What the names of the following tables mean, as a function of the composed settings.
READ = {
    "trunk": lambda s, c: c["trunk"],
    "optimizer": lambda s, c: c["optimizer"],
    "sampler": lambda s, c: c["sampler"],
    "eps": lambda s, c: s.optimizer.get("eps", 1e-8),
    "momentum": lambda s, c: s.optimizer.get("momentum"),
    "decay": lambda s, c: s.optimizer["weight_decay"],
    "loss_decay": lambda s, c: s.method.weight_decay,
    "lr": lambda s, c: s.protocol.lr,
    "head_lr": lambda s, c: s.protocol.lr * s.protocol.head_lr_scale,
    "loss_lr": lambda s, c: s.protocol.lr * s.method.lr_scale,
    "batch": lambda s, c: s.protocol.batch_size,
    "per_class": lambda s, c: s.method.samples_per_class,
    "dim": lambda s, c: s.protocol.embedding_dim,
    "pooling": lambda s, c: s.protocol.pooling,
    "norm": lambda s, c: s.protocol.head_norm,
    "hidden": lambda s, c: list(s.protocol.head_layers),
    "boxes": lambda s, c: s.protocol.crop_to_box,
    "epochs": lambda s, c: s.protocol.epochs,
    "steps": lambda s, c: s.protocol.steps_per_epoch,
    "head_only": lambda s, c: s.protocol.head_only_epochs,
    "schedule": lambda s, c: s.protocol.schedule,
    "drops": lambda s, c: _drops(s.protocol),
    "factor": lambda s, c: s.protocol.step_gamma,
    "clip_value": lambda s, c: s.protocol.clip_grad_value,
    "clip_norm": lambda s, c: s.protocol.clip_grad_norm,
    "frozen_bn": lambda s, c: s.protocol.freeze_batch_norm,
    "bf16": lambda s, c: s.protocol.mixed_precision,
    "px": lambda s, c: (s.protocol.resized_px, s.protocol.image_px),
    "crop": lambda s, c: (
        (s.protocol.train_crop, *s.protocol.crop_scale) if "resized" in s.protocol.train_crop else s.protocol.train_crop
    ),
    "flip": lambda s, c: s.protocol.flip,
    "selection": lambda s, c: (s.protocol.selection, s.protocol.fold),
    "patience": lambda s, c: (s.protocol.validate_every, s.protocol.patience),
    "make": lambda s, c: s.method.make,
    "miner": lambda s, c: s.method.miner,
    "clusters": lambda s, c: (s.protocol.selection_metric, s.protocol.clusters_per_class),
    "sampling": lambda s, c: s.method.sampler,
}

TORCHVISION_CROP = ("random_resized", 0.08, 1.0)  # the default of torchvision's RandomResizedCrop
# `proxy_norm` is the mean length of the proxies before training, which decides how fast a learning rate turns them.
EVERY_PAPER = {
    **{"bf16": False, "clip_norm": None, "clip_value": None, "head_only": 0, "norm": "none", "flip": True, "eps": 1e-8},
    "proxy_norm": None,
}

FASTAP = {
    **EVERY_PAPER,
    **{"trunk": "resnet50", "optimizer": "adam", "lr": 1e-5, "head_lr": 1e-4, "batch": 96, "epochs": 30, "px": (256, 224)},
    **{"schedule": "constant", "decay": 0, "dim": 512, "pooling": "avg", "frozen_bn": False},  # train_hard.m trains batch norm
    **{"crop": ("random_resized", 0.16, 1.0), "make": {"num_bins": 10}},
}
MULTI_SIMILARITY = {
    **EVERY_PAPER,
    **{"trunk": "bn_inception", "optimizer": "adam", "decay": 5e-4, "lr": 3e-5, "head_lr": 3e-5, "batch": 80, "per_class": 5},
    **{"dim": 512, "pooling": "max", "epochs": 30, "steps": 100, "drops": [12, 24], "factor": 0.1, "frozen_bn": True},
    **{"px": (256, 227), "crop": ("random_resized", 0.16, 1.0), "make": {"alpha": 2, "beta": 40, "base": 0.5}},
    "miner": {"epsilon": 0.1},
}
NORMALIZED_SOFTMAX = {  # epoch 0 trains head and class weights, then 15 + 15 epochs
    **EVERY_PAPER,
    **{"trunk": "resnet50", "optimizer": "sgd", "momentum": 0.9, "decay": 1e-4, "lr": 0.01, "head_lr": 0.01, "loss_lr": 0.01},
    **{"batch": 75, "per_class": 5, "dim": 2048, "pooling": "avg", "norm": "layer", "epochs": 31, "head_only": 1},
    **{"drops": [16], "factor": 0.1, "frozen_bn": False, "px": (256, 224), "crop": "random", "make": {"temperature": 0.05}},
    "proxy_norm": math.sqrt(1 / 3),  # uniform within 1 / sqrt(dim) of 0
}
SLOW = {"lr": 0.001, "head_lr": 0.001, "loss_lr": 0.001}
PROXY_ANCHOR = {
    **EVERY_PAPER,
    **{"trunk": "bn_inception", "optimizer": "adamw", "sampler": "shuffle", "decay": 1e-4, "lr": 1e-4, "head_lr": 1e-4},
    **{"loss_lr": 1e-2, "batch": 180, "dim": 512, "pooling": "avg+max", "epochs": 60, "head_only": 1, "clip_value": 10},
    **{"drops": [10, 20, 30, 40, 50], "factor": 0.5, "frozen_bn": True, "px": (256, 224), "crop": TORCHVISION_CROP},
    "make": {"alpha": 32, "margin": 0.1},
    "proxy_norm": math.sqrt(2 / 100 * 512),  # kaiming_normal_ with mode fan_out: variance 2 / classes
}
LARGE = {"lr": 6e-4, "head_lr": 6e-4, "loss_lr": 6e-2, "drops": [20, 40], "factor": 0.25, "frozen_bn": False}
PROXY_NCA = {  # a reproduction, because the authors' code is not public
    **EVERY_PAPER,
    **{"trunk": "bn_inception", "optimizer": "adam", "eps": 1.0, "sampler": "shuffle", "decay": 0, "lr": 0.045},
    **{"head_lr": 0.045, "loss_lr": 1.0, "batch": 32, "dim": 64, "pooling": "avg", "epochs": 50, "factor": 0.94},
    **{"drops": [*range(1, 50)], "frozen_bn": False, "px": (256, 227), "crop": TORCHVISION_CROP, "make": {"softmax_scale": 9}},
    "proxy_norm": 1.0,  # randn / 8, "s.t. norm of each proxy ~1"
}
SOFTTRIPLE = {
    **EVERY_PAPER,
    **{"trunk": "bn_inception", "optimizer": "adam", "eps": 0.01, "sampler": "shuffle", "decay": 1e-4, "lr": 1e-4},
    # train.py counts epochs from 0 and drops the rate if (epoch + 1) % 20 == 0.
    **{"head_lr": 1e-4, "loss_lr": 1e-2, "batch": 32, "dim": 64, "pooling": "avg", "epochs": 50, "drops": [19, 39]},
    **{"factor": 0.1, "frozen_bn": True, "px": (256, 224), "crop": TORCHVISION_CROP},
    "proxy_norm": math.sqrt(64 / (3 * 98 * 10)),  # kaiming_uniform_ with a = sqrt(5): uniform within 1 / sqrt(98 x 10) of 0
    "make": {"la": 20, "gamma": 0.1, "weight_reg_weight": 0.2, "margin": 0.01, "centers_per_class": 10},
}
SGML_ABLATION: dict[str, dict[str, Any]] = {
    "sgml": {"linked": True, "detach": False},
    "multitask": {"linked": False},
    "binomial_deviance": {},
    "attributes_only": {},
}
SGML = {  # the paper names neither epochs, schedule, weight decay nor lambda
    **EVERY_PAPER,
    **{"trunk": "resnet101", "optimizer": "adam", "dim": 512, "hidden": [1024], "px": (256, 224), "boxes": False},
    **{"crop": ("random_resized", 0.9, 1.0)},
}
UNKNOWN_CLASSES = {  # a tenth of the learning rate below the last layer; epochs of 10 iterations in the authors' code
    **EVERY_PAPER,
    **{"trunk": "inception_v3", "optimizer": "adam", "decay": 0, "sampler": "sixteen_per_class", "batch": 64, "dim": 64},
    **{"lr": 4e-6, "head_lr": 4e-5, "epochs": 20, "steps": 50, "schedule": "constant", "pooling": "avg", "px": (299, 299)},
    **{"crop": "center", "flip": False, "frozen_bn": False, "selection": ("validation", 0), "clusters": ("purity", 1)},
    "make": {"form": "hinge", "margin": 0.2},
}
LOCAL = {"epochs": 12, "clusters": ("purity", 3)}
SLOW_UNKNOWN = {"lr": 1e-6, "head_lr": 1e-5, "epochs": 12}
SLOWEST_UNKNOWN = {"lr": 1e-7, "head_lr": 1e-6, "epochs": 12}
CONVENTIONAL = {
    **UNKNOWN_CLASSES,
    **{"lr": 1e-6, "head_lr": 1e-5, "batch": 48, "sampling": {"mining": "hard", "hard_share": 0.5, "regenerate_every": 1}},
}
PAPER: dict[str, dict[str, Any]] = {
    "batch_all_cub": UNKNOWN_CLASSES,
    "batch_all_local_cub": {**UNKNOWN_CLASSES, **SLOW_UNKNOWN, **LOCAL, "make": {"positive_percentile": 60, "margin": 0.2}},
    "batch_all_squared_cub": {**UNKNOWN_CLASSES, **SLOWEST_UNKNOWN, "make": {"form": "hinge_squared", "margin": 0.2}},
    "batch_all_squared_local_cub": {**UNKNOWN_CLASSES, **SLOWEST_UNKNOWN, **LOCAL, "make": {"positive_percentile": 60}},
    "batch_all_soft_cub": {**UNKNOWN_CLASSES, **SLOW_UNKNOWN, "make": {"form": "soft", "margin": 0.2}},
    "batch_all_soft_local_cub": {**UNKNOWN_CLASSES, **SLOW_UNKNOWN, **LOCAL, "make": {"form": "soft"}},
    "conventional_cub": {**CONVENTIONAL, "make": {"form": "hinge", "average": "all"}},
    "conventional_squared_cub": {**CONVENTIONAL, "make": {"form": "hinge_squared", "average": "all"}},
    "conventional_ratio_cub": {**CONVENTIONAL, "make": {"form": "ratio", "average": "all"}},
    "fastap_sop": FASTAP,
    "fastap_inshop": FASTAP,
    "multi_similarity_cub": MULTI_SIMILARITY,
    "normalized_softmax_cub": {**NORMALIZED_SOFTMAX, **SLOW, "per_class": 25},
    "normalized_softmax_cars": {**NORMALIZED_SOFTMAX, "per_class": 25},
    "normalized_softmax_sop": NORMALIZED_SOFTMAX,
    "normalized_softmax_inshop": NORMALIZED_SOFTMAX,
    "proxy_anchor_cub": PROXY_ANCHOR,
    "proxy_anchor_cars": {**PROXY_ANCHOR, "drops": [20, 40], "proxy_norm": math.sqrt(2 / 98 * 512)},
    "proxy_anchor_sop": {**PROXY_ANCHOR, **LARGE, "proxy_norm": math.sqrt(2 / 11318 * 512)},
    "proxy_anchor_inshop": {**PROXY_ANCHOR, **LARGE, "proxy_norm": math.sqrt(2 / 3997 * 512)},
    "proxy_nca_cub": {**PROXY_NCA, "epochs": 20, "drops": [*range(1, 20)]},
    "proxy_nca_cars": PROXY_NCA,
    "proxy_nca_sop": {**PROXY_NCA, "loss_lr": 10.0, "make": {"softmax_scale": 8}},
    **{
        f"{loss}_cub": {
            **SGML,
            **{"sampler": "triplets", "batch": 3 * 60, "lr": 4e-6, "head_lr": 4e-6, "boxes": True},
            "make": {**make, **({"alpha": 3, "beta": 0.1} if loss != "attributes_only" else {})},
        }
        for loss, make in SGML_ABLATION.items()
    },
    **{
        f"{loss}_inshop": {
            **SGML,
            **{"sampler": "m_per_class", "batch": 41 * 4, "per_class": 4, "lr": 1e-4, "head_lr": 1e-4},
            "make": {**make, **({"alpha": 2, "beta": 0.5} if loss != "attributes_only" else {})},
        }
        for loss, make in SGML_ABLATION.items()
    },
    "softtriple_cars": SOFTTRIPLE,
}
# Where a preset differs from the values above; the head of its file says so.
DIFFERENT: dict[str, dict[str, Any]] = {"softtriple_cars": {"drops": [20, 40]}}

# One line per loss and data set: learning rate of the loss's parameters (None without), arguments of the loss, of the miner.
DATASETS = ("cub", "cars", "sop")
REALITY_CHECK: dict[str, tuple[tuple[str, ...], list[tuple[float | None, list[float]]]]] = {
    "contrastive": (("pos_margin", "neg_margin"), [(None, [-0.2, 0.3841]), (None, [0.2652, 0.5409]), (None, [0.2850, 0.5130])]),
    "triplet": (("margin",), [(None, [0.0961]), (None, [0.1190]), (None, [0.0451])]),
    "ntxent": (("temperature",), [(None, [0.0091]), (None, [0.0219]), (None, [0.0002])]),
    "proxy_nca": (("softmax_scale",), [(6.04e-3, [13.98]), (4.43e-3, [7.97]), (5.28e-4, [10.73])]),
    "margin": (("margin", "beta"), [(1.31e-3, [0.0878, 0.7838]), (1.11e-4, [0.0781, 1.3164]), (1.82e-3, [0.0915, 1.1072])]),
    "margin_per_class": (
        ("margin", "beta"),
        [(2.65e-4, [0.0779, 0.9796]), (4.76e-5, [0.0776, 0.9598]), (7.1e-5, [0.0518, 0.8424])],
    ),
    "normalized_softmax": (("temperature",), [(4.46e-3, [0.1087]), (1.10e-2, [0.0886]), (5.46e-4, [0.0630])]),
    "cosface": (("margin", "scale"), [(2.53e-3, [0.6182, 100]), (7.41e-3, [0.4324, 161.5]), (2.16e-3, [0.3364, 100])]),
    "arcface": (("margin", "scale"), [(5.13e-3, [23.22, 100]), (7.39e-6, [20.52, 49.5]), (2.01e-3, [18.63, 220.3])]),
    "fastap": (("num_bins",), [(None, [17]), (None, [27]), (None, [16])]),
    "snr_contrastive": (
        ("pos_margin", "neg_margin", "embedding_reg_weight"),
        [(None, [0.3264, 0.8446, 0.1382]), (None, [0.1670, 0.9337, 0]), (None, [0.3759, 1.0831, 0])],
    ),
    "multi_similarity_no_miner": (
        ("alpha", "beta", "base"),
        [(None, [0.01, 50.60, 0.56]), (None, [14.35, 75.83, 0.66]), (None, [8.49, 57.38, 0.41])],
    ),
    "multi_similarity": (
        ("alpha", "beta", "base", "epsilon"),
        [(None, [17.97, 75.66, 0.77, 0.39]), (None, [7.49, 47.99, 0.63, 0.72]), (None, [15.94, 156.61, 0.72, 0.34])],
    ),
    "softtriple": (
        ("la", "gamma", "weight_reg_weight", "margin"),
        [
            (5.37e-5, [78.02, 58.95, 0.3754, 0.4307]),
            (1.40e-4, [17.69, 19.18, 0.0669, 0.3588]),
            (8.68e-5, [100, 47.9, 0, 0.3145]),  # the weight of the regulariser is not published for SOP
        ],
    ),
}
PATIENCE = {"cub": (2, 9), "cars": (5, 14), "sop": (20, 39)}
EVERY_REALITY_CHECK: dict[str, Any] = {
    **{"trunk": "bn_inception", "optimizer": "rmsprop", "momentum": 0.9, "decay": 1e-4, "lr": 1e-6, "head_lr": 1e-6},
    **{"sampler": "by_kind", "batch": 32, "dim": 128, "pooling": "avg", "epochs": 1000, "steps": 100, "schedule": "constant"},
    **{"frozen_bn": True, "bf16": False, "px": (256, 227), "crop": ("random_resized", 0.16, 1.0), "flip": True},
    **{"clip_norm": None, "clip_value": None, "head_only": 0, "norm": "none", "selection": ("validation", "all")},
}


FILES = sorted((conf_dir() / "preset").glob("*/*.yaml"))


def _drops(protocol: Any) -> list[int]:
    """Epochs before which the learning rate drops."""
    return [epoch for epoch in range(1, protocol.epochs) if epoch % protocol.step_epochs == 0]


@cache
def composed_settings(preset: str, name: str) -> tuple[Settings, Mapping[str, str]]:
    loss, _, dataset = name.rpartition("_")
    composed = compose(expand_preset([f"preset={preset}", f"loss={loss}", f"dataset={dataset}"]))
    return resolve(composed), composed.choices


def read(preset: str, name: str) -> dict[str, Any]:
    settings, choices = composed_settings(preset, name)
    return {key: function(settings, choices) for key, function in READ.items()}


def proxy_norm(preset: str, name: str) -> float | None:
    """The mean length of the proxies before training; None for a loss without proxies."""
    settings = composed_settings(preset, name)[0]
    torch.manual_seed(0)
    objective = build_objective(settings.method)
    assert objective is not None
    found = copy_proxies(objective, settings.protocol.embedding_dim)
    return torch.cat(found).norm(dim=1).mean().item() if found else None


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """One line per value that differs. Of the arguments of loss and miner, only those that are expected are compared."""
    lines = []
    for key, value in expected.items():
        if isinstance(value, dict):
            lines += [f"{key}.{line}" for line in differences(found[key] or {}, value)]
        elif found.get(key) != (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value):
            lines.append(f"{key} is {found.get(key)!r}; the authors have {value!r}")
    return lines


def test_every_shipped_preset_has_its_values_in_this_file() -> None:
    presets = available()
    assert presets["paper"] == sorted(PAPER)
    assert presets["reality_check"] == sorted(f"{loss}_{dataset}" for loss in REALITY_CHECK for dataset in DATASETS)
    assert set(presets) == {"paper", "reality_check"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_preset_composes_to_a_loss_and_a_protocol_and_opens_with_its_paper_and_its_command(file: Path) -> None:
    preset, (loss, _, dataset) = file.parent.name, file.stem.rpartition("_")
    assert dataset in (*DATASETS, "inshop")
    settings = composed_settings(preset, file.stem)[0]
    assert settings.method.make
    assert settings.protocol.epochs > 0

    lines = file.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert "arXiv:" in lines[1] or "CVPR" in lines[1]
    assert lines[2] == f"#   dmlbench train preset={preset} loss={loss} dataset={dataset}"
    assert any(line.startswith("# Values: ") for line in lines)


@pytest.mark.parametrize("name", PAPER)
def test_a_paper_preset_has_the_values_of_the_authors_code(name: str) -> None:
    expected = {key: value for key, value in PAPER[name].items() if key != "proxy_norm"} | DIFFERENT.get(name, {})
    assert differences(read("paper", name), expected) == []


@pytest.mark.parametrize("name", PAPER)
def test_the_proxies_of_a_paper_preset_start_at_the_length_of_the_authors_code(name: str) -> None:
    """Every preset has the key: a new one with proxies fails until its length is stated here."""
    expected, found = PAPER[name]["proxy_norm"], proxy_norm("paper", name)
    assert found == (expected if expected is None else pytest.approx(expected, rel=0.01))


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("loss", REALITY_CHECK)
def test_a_reality_check_preset_has_the_published_values(loss: str, dataset: str) -> None:
    names, published = REALITY_CHECK[loss]
    loss_lr, values = published[DATASETS.index(dataset)]
    arguments = dict(zip(names, values, strict=True))
    epsilon = arguments.pop("epsilon", None)
    expected = {**EVERY_REALITY_CHECK, "make": arguments, "patience": PATIENCE[dataset]}
    found = read("reality_check", f"{loss}_{dataset}")
    assert differences(found, expected) == []
    if loss_lr is not None:
        assert found["loss_lr"] == pytest.approx(loss_lr, rel=1e-6)
    if epsilon is not None:
        assert found["miner"]["epsilon"] == epsilon
    if loss.startswith("margin"):
        assert found["loss_decay"] == 0
    if loss in ("triplet", "multi_similarity_no_miner", "contrastive", "ntxent"):
        assert found["miner"] is None


def test_the_reality_check_has_the_initialisation_of_the_library() -> None:
    for name in available()["reality_check"]:
        assert composed_settings("reality_check", name)[0].method.proxy_init == "constructor", name


def test_a_value_that_differs_from_the_authors_is_named() -> None:
    found = {**read("paper", "proxy_anchor_cub"), "proxy_norm": PAPER["proxy_anchor_cub"]["proxy_norm"]}
    found["make"], found["clip_value"] = {**found["make"], "margin": 0.2}, None
    assert differences(found, PAPER["proxy_anchor_cub"]) == [
        "clip_value is None; the authors have 10",
        "make.margin is 0.2; the authors have 0.1",
    ]
