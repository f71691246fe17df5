"""A method's loss and miner as one module."""

from __future__ import annotations

import torch
from torch import nn

from dmlbench.config.instantiate import build
from dmlbench.config.schema import Method
from dmlbench.errors import UserError


class Objective(nn.Module):
    """What a method minimises; its parameters are the method's own (proxies, centres, class weights).

    Args:
        loss: module called as `loss(embeddings, labels)`, or `loss(embeddings, labels, mined)` where there is a miner.
        miner: called as `miner(embeddings, labels)`; picks the pairs or triplets that count.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of one batch.

        Args:
            embeddings: float32 `(B, D)`, L2-normalised.
            labels: int64 `(B,)`, 0-based among the training classes.

        Returns:
            A scalar.
        """
        if self.miner is None:
            return self.loss(embeddings, labels)
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


def build_objective(method: Method) -> Objective | None:
    """Build a method's objective from its configuration; None for a method that trains nothing."""
    if method.make is None:
        return None
    miner = build(f"loss/{method.name}: loss.miner", method.miner) if method.miner else None
    loss = build(f"loss/{method.name}: loss.make", method.make)
    if not isinstance(loss, nn.Module):  # its parameters would not train
        made = f"{method.make['_target_']} made {type(loss).__name__}"
        raise UserError(f"loss/{method.name}: {made}; a loss is a torch.nn.Module, so that its parameters train")
    return Objective(loss, miner)
