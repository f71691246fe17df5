"""The columns of a row about predicted attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Scalar
from dmlbench.data.split import Split
from dmlbench.evaluation.attribute_quality import attribute_quality
from dmlbench.training.trained_model import TrainedModel, embed_split


def attribute_columns(models: Sequence[TrainedModel], split: Split, plan: Plan) -> dict[str, Scalar]:
    """Evaluate the predicted attributes of all test images, of one model or of one model per fold.

    Args:
        models: Trained models.
        split: Data set of the plan.
        plan: The plan of the run.

    Returns:
        What `attribute_quality` returns, averaged over the models; empty if the method does not predict attributes.
    """
    if plan.method.attributes != "predicted":
        return {}
    each = [_quality(one, split, plan) for one in models]
    columns = dict(each[0])
    for name, value in columns.items():
        if isinstance(value, float):
            columns[name] = float(np.mean([cast(float, one[name]) for one in each]))
    return columns


def _quality(one: TrainedModel, split: Split, plan: Plan) -> dict[str, Scalar]:
    assert split.attributes is not None  # `runs.prepare` refuses such a plan
    with one.reading(), one.model.at_layer("attributes"):
        predicted = embed_split(one.model, split, ("query", "gallery"), one.batches, plan, unit=False)
    logits = cast(torch.Tensor, predicted.rows).numpy()
    trained = (split.attributes.rows(split.ids("train")).values == 1).any(axis=0)
    return attribute_quality(logits, split.attributes.rows(predicted.ids.numpy()).values, trained)
