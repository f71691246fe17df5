"""Overrides that would have no effect: arguments that training passes itself, and fields that another field disables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dmlbench.errors import UserError

if TYPE_CHECKING:
    from dmlbench.config.compose import Settings

# A configured value of these would be ignored, or passed twice.
SET_BY_TRAINING = {
    "optimizer.lr": "protocol and method set all learning rates; use protocol.lr or loss.lr",
    "optimizer.params": "training passes the parameters of the model and the loss",
    "sampler.batch_size": "the protocol sets the batch size; use protocol.batch_size",
    "sampler.labels": "training passes the labels of the training images",
    "sampler.generator": "training passes a generator that is seeded by the seed of the run; use seed",
    "sampler.state": "training passes what the sampler keeps between epochs",
}


# Fields of the protocol that are used only if another one has some value: field to that other one and its values.
_NEEDS = {
    "protocol.step_epochs": ("protocol.schedule", ("step",)),
    "protocol.step_gamma": ("protocol.schedule", ("step",)),
    "protocol.crop_scale": ("protocol.train_crop", ("random_resized",)),
    "protocol.crop_ratio": ("protocol.train_crop", ("random_resized",)),
}


def refuse_set_by_training(cfg: Mapping[str, Any]) -> None:
    """Refuse values that training would ignore.

    Args:
        cfg: Composed configuration.

    Raises:
        UserError: Names the key, and the one that has an effect.
    """
    for key, reason in SET_BY_TRAINING.items():
        group, _, name = key.partition(".")
        if name in cfg[group]:
            raise UserError(f"{key} has no effect: {reason}")


# Fields of a method that have no effect if it trains nothing.
OF_TRAINING = ("loss.lr", "loss.head_lr_scale", "loss.lr_scale", "loss.weight_decay", "loss.proxy_init")
# Fields of the data set that only some of the built-in data sets use, and what the others lack.
_OF_DATASET = {"dataset.split": "has a single split", "dataset.group": "has its own groups or none"}


def refuse_without_effect(overrides: Sequence[str], settings: Settings) -> None:
    """Refuse overrides that a run would ignore, because its row would name them as if they had been used.

    Args:
        overrides: Overrides of one job.
        settings: Its values.

    Raises:
        UserError: Names the key, and the one that gives it an effect.
    """
    protocol, make = settings.protocol, settings.dataset.make
    given = {one.lstrip("+").partition("=")[0] for one in overrides}
    for key, reason in _OF_DATASET.items():
        if key in given and key.partition(".")[2] not in make and str(make.get("_target_")).startswith("dmlbench."):
            raise UserError(f"{key} has no effect with dataset={settings.dataset.name}, which {reason}")
    for key in OF_TRAINING:
        if key in given and settings.method.make is None:
            raise UserError(f"{key} has no effect with loss={settings.method.name}, which trains nothing")
    for key, (other, values) in _NEEDS.items():
        value = getattr(protocol, other.partition(".")[2])
        if key in given and value not in values:
            frozen = " of a frozen trunk" if protocol.trunk_frozen and other == "protocol.train_crop" else ""
            raise UserError(f"{key} has no effect with {other}={value}{frozen}; it needs {other}={' or '.join(values)}")
    if "protocol.folds" in given and protocol.fold == "none":
        tuning = "; tuning has tuning.folds" if settings.tuning.trials else ""
        raise UserError(f"protocol.folds has no effect with protocol.fold=none; it needs protocol.fold=all or an index{tuning}")
    if "protocol.selection_metric" in given and not (protocol.selection == "validation" or settings.tuning.trials):
        raise UserError(
            "protocol.selection_metric has no effect with protocol.selection=last; it needs protocol.selection=validation and "
            "a fold, such as protocol.fold=0, or tuning"
        )
    validates = protocol.selection == "validation" or settings.oracle or settings.tuning.trials
    if "protocol.validate_every" in given and not validates:
        raise UserError(
            "protocol.validate_every has no effect with protocol.selection=last; it needs protocol.selection=validation or "
            "oracle=true"
        )
