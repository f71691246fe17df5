"""The learning rates of trunk, head and loss: of the protocol, unless the method has its own."""

from __future__ import annotations

from dataclasses import dataclass

from dmlbench.config.schema import Method, Protocol


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of a run, before schedule and warm-up.

    Args:
        trunk: Of the trunk.
        head: Of the head.
        loss: Of the loss's own parameters.
    """

    trunk: float
    head: float
    loss: float


def learning_rates(method: Method, protocol: Protocol) -> LearningRates:
    """Return the learning rates of a run: those of the method if it has its own, else those of the protocol.

    Args:
        method: Method.
        protocol: Protocol.
    """
    trunk = protocol.lr if method.lr is None else method.lr
    head_scale = protocol.head_lr_scale if method.head_lr_scale is None else method.head_lr_scale
    return LearningRates(trunk, trunk * head_scale, trunk * method.lr_scale)
