"""Arguments of optimizers and samplers that training passes itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmlbench.errors import UserError

# A configured value of these would be ignored, or passed twice.
SET_BY_TRAINING = {
    "optimizer.lr": "the protocol sets all learning rates; use protocol.lr",
    "optimizer.params": "training passes the parameters of the model and the loss",
    "sampler.batch_size": "the protocol sets the batch size; use protocol.batch_size",
    "sampler.labels": "training passes the labels of the training images",
    "sampler.generator": "training passes a generator that is seeded by the seed of the run; use seed",
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
