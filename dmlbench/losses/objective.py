"""The objective of a method: its loss and miner as one module."""

from __future__ import annotations

import torch
from torch import nn

from dmlbench.config.instantiate import build
from dmlbench.config.schema import Method
from dmlbench.errors import UserError
from dmlbench.losses.proxies import scale_to_unit_length


class Objective(nn.Module):
    """The objective that training minimises. Its parameters are those of the loss, such as proxies or class weights.

    Args:
        loss: Called as `loss(embeddings, labels)`, or as `loss(embeddings, labels, mined)` with a miner.
        miner: Called as `miner(embeddings, labels)`. Selects the pairs or triplets that contribute to the loss.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float32 `(B, D)`, L2-normalised.
            labels: int64 `(B,)`, the indices of the training classes, from 0.

        Returns:
            The loss, a scalar.
        """
        if self.miner is None:
            return self.loss(embeddings, labels)
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


def build_objective(method: Method) -> Objective | None:
    """Build the objective of a method.

    Args:
        method: Configuration of the method.

    Returns:
        The objective; None for a method that trains nothing.

    Raises:
        UserError: Loss or miner cannot be built, or the loss is not a module.
    """
    if method.make is None:
        return None
    miner = build(f"loss/{method.name}: loss.miner", method.miner) if method.miner else None
    loss = build(f"loss/{method.name}: loss.make", method.make)
    if not isinstance(loss, nn.Module):
        returned = f"{method.make['_target_']} returned {type(loss).__name__}"
        raise UserError(f"loss/{method.name}: {returned}; a loss must be a torch.nn.Module, so that its parameters are trained")
    if method.proxy_init == "unit":
        scale_to_unit_length(loss, _embedding_size(method), f"loss/{method.name}")
    return Objective(loss, miner)


def _embedding_size(method: Method) -> int:
    size = (method.make or {}).get("embedding_size")
    if not isinstance(size, int):
        raise UserError(
            f"loss/{method.name}: proxy_init is 'unit', but loss.make has no embedding_size; use loss.proxy_init=constructor"
        )
    return size
