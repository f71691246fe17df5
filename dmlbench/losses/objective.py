"""The objective of a method: its loss and miner as one module."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dmlbench.config.instantiate import build, locate
from dmlbench.config.schema import Method
from dmlbench.config.typed import as_typed
from dmlbench.errors import UserError
from dmlbench.losses.consecutive_triplets import ConsecutiveTriplets
from dmlbench.losses.proxies import scale_proxies

# Miners whose results are equal, bit by bit, to those of the class that a configuration names. The identity of a method has the
# name in the configuration. The library's own class is selected by the name of its module, `miners.triplet_margin_miner`.
_EQUAL_AND_FASTER = {"pytorch_metric_learning.miners.TripletMarginMiner": "dmlbench.losses.triplet_miner.TripletMarginMiner"}


class Objective(nn.Module):
    """The objective that training minimises. Its parameters are those of the loss, such as proxies or class weights.

    Args:
        loss: Called as `loss(embeddings, labels)`, or as `loss(embeddings, labels, mined)` with a miner. If the method uses
            attributes, it also receives them as the keywords `attributes` and, if it predicts them, `logits`.
        miner: Called as `miner(embeddings, labels)`. Selects the pairs or triplets that contribute to the loss.
    """

    def __init__(self, loss: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.miner = miner

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        attributes: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float32 `(B, D)`, L2-normalised.
            labels: int64 `(B,)`, the indices of the training classes, from 0.
            attributes: Annotated attributes, float32 `(B, K)`: 0, 1, or NaN for a missing value. None if the method ignores
                them.
            logits: Predicted attributes, float32 `(B, K)`. None if the method does not predict them.

        Returns:
            The loss, a scalar.
        """
        given = {name: value for name, value in (("attributes", attributes), ("logits", logits)) if value is not None}
        if self.miner is None:
            return self.loss(embeddings, labels, **given)
        return self.loss(embeddings, labels, self.miner(embeddings, labels), **given)


def build_objective(method: Method, sampler: Mapping[str, Any] | None = None) -> Objective | None:
    """Build the objective of a method.

    Args:
        method: Configuration of the method.
        sampler: Sampler of the batches, unless the method has its own. If it builds triplets, a pair loss receives these
            instead of those of the method's miner. None for a sampler that builds none.

    Returns:
        The objective; None for a method that trains nothing.

    Raises:
        UserError: Loss or miner cannot be built, the loss is not a module, or it does not accept triplets or attributes.
    """
    if method.make is None:
        return None
    miner = build(f"loss/{method.name}: loss.miner", _faster(method.miner)) if method.miner else None
    loss = build(f"loss/{method.name}: loss.make", method.make)
    if not isinstance(loss, nn.Module):
        returned = f"{method.make['_target_']} returned {type(loss).__name__}"
        raise UserError(f"loss/{method.name}: {returned}; a loss must be a torch.nn.Module, so that its parameters are trained")
    _refuse_other_inputs(method, loss)
    if method.proxy_init != "constructor":
        length = 1.0 if method.proxy_init == "unit" else method.proxy_init
        scale_proxies(loss, _embedding_size(method), length, _with_initial_length(method))
    if method.kind == "pair" and _builds_triplets(method.sampler or sampler):
        _refuse_without_triplets(method, loss)
        miner = ConsecutiveTriplets()
    return Objective(loss, miner)


def _faster(miner: Mapping[str, Any]) -> Mapping[str, Any]:
    """A miner in which a class of the library is replaced by an equal, faster one."""
    target = str(miner.get("_target_"))
    return {**miner, "_target_": _EQUAL_AND_FASTER[target]} if target in _EQUAL_AND_FASTER else miner


def _builds_triplets(sampler: Mapping[str, Any] | None) -> bool:
    return sampler is not None and getattr(locate("sampler", sampler), "yields_triplets", False)


def _refuse_other_inputs(method: Method, loss: nn.Module) -> None:
    """Refuse a loss that does not accept what it would receive about attributes, or that needs more."""
    given = {"ignored": (), "annotated": ("attributes",), "predicted": ("attributes", "logits")}[method.attributes]
    accepted = inspect.signature(loss.forward).parameters
    any_keyword = any(one.kind is one.VAR_KEYWORD for one in accepted.values())
    key, target = f"loss/{method.name}: loss.attributes is '{method.attributes}'", (method.make or {})["_target_"]
    for name in given:
        if name not in accepted and not any_keyword:
            raise UserError(
                f"{key}, but {target} does not accept `{name}`; use loss.attributes=ignored, or a loss such as sgml"
            )
    for name, value in (("logits", "predicted"), ("attributes", "annotated")):
        if name in accepted and accepted[name].default is inspect.Parameter.empty and name not in given:
            raise UserError(f"{key}, but {target} needs `{name}`; use loss.attributes={value}")


def _refuse_without_triplets(method: Method, loss: nn.Module) -> None:
    refusal = getattr(loss, "refuses_triplets", None)
    if isinstance(refusal, str):
        raise UserError(
            f"loss/{method.name}: the sampler builds triplets, but loss.make.{refusal}; use sampler=m_per_class, or "
            "loss.make.positive_percentile=null"
        )
    arguments = list(inspect.signature(loss.forward).parameters.values())
    positional = [one for one in arguments if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)]
    if len(positional) < 3 and not any(one.kind is one.VAR_POSITIONAL for one in positional):
        raise UserError(
            f"loss/{method.name}: {(method.make or {})['_target_']} cannot learn from triplets that the sampler builds; use "
            "sampler=m_per_class, or a loss that accepts triplets, such as loss=conventional"
        )


def _with_initial_length(method: Method) -> str:
    """The start of an error about the initial length of proxies."""
    return f"loss/{method.name}: proxy_init is {as_typed(method.proxy_init)}"


def _embedding_size(method: Method) -> int:
    size = (method.make or {}).get("embedding_size")
    if not isinstance(size, int):
        raise UserError(f"{_with_initial_length(method)}, but loss.make has no embedding_size; use loss.proxy_init=constructor")
    return size
