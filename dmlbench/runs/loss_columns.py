"""Columns of a row about what training did to the state of its loss: proxies, and the memory of earlier batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dmlbench.config.schema import Scalar
from dmlbench.losses.cross_batch_memory import CrossBatchMemoryLoss
from dmlbench.training.trained_model import TrainedModel


def proxy_columns(models: Sequence[TrainedModel]) -> dict[str, Scalar]:
    """Return the numbers of proxies and of dead proxies over all models, and how far proxies turned in the first steps.

    Args:
        models: Models, of which the last may not have been trained to the end.

    Returns:
        `n_proxies`, `n_dead_proxies` and `proxy_turn_degrees`; None if a model was not trained to the end.
    """
    counts = [one.proxies for one in models if one.proxies is not None]
    complete = len(counts) == len(models)
    names = ("n_proxies", "n_dead_proxies")
    turns = [one.history.proxy_turn for one in models if one.history.proxy_turn is not None]
    return {
        **{name: sum(count[i] for count in counts) if complete else None for i, name in enumerate(names)},
        "proxy_turn_degrees": float(np.mean(turns)) if complete and turns else None,
    }


def memory_columns(models: Sequence[TrainedModel]) -> dict[str, Scalar]:
    """Return in how many steps the loss used its memory of earlier batches.

    Args:
        models: Models, with their objectives after training.

    Returns:
        `n_memory_steps`; nothing for a loss without a memory.
    """
    losses = [one.objective.loss for one in models if one.objective is not None]
    steps = [loss.n_memory_steps for loss in losses if isinstance(loss, CrossBatchMemoryLoss)]
    return {"n_memory_steps": sum(steps)} if steps else {}
