"""Evaluate one model, or one model per fold: separately, and with their embeddings concatenated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from dmlbench.config.schema import Scalar
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, EvaluationResult, evaluate
from dmlbench.results.metric_specs import CONCATENATED


@dataclass(frozen=True, eq=False)
class ModelsResult:
    """Metrics of the models of a run.

    Args:
        columns: Columns of a row. With one model per fold, the plain names and `separated_*` are means over the models,
            `concatenated_*` are those of the concatenated embeddings, and `fold<i>_map_at_r` those of each model.
        tensors: Scores of each query, under the same names as the metrics.
        each: Result of each model.
    """

    columns: Mapping[str, Scalar]
    tensors: Mapping[str, Tensor]
    each: tuple[EvaluationResult, ...]


def evaluate_models(embeddings: Sequence[Embeddings], config: EvaluationConfig, per_fold: bool) -> ModelsResult:
    """Evaluate the embeddings of all models of a run.

    Args:
        embeddings: Embeddings of each model, for the same images in the same order.
        config: How to evaluate them.
        per_fold: Whether there is one model per fold.

    Raises:
        MethodFailure: An embedding is not finite.
        UserError: See `evaluate`.
    """
    each = tuple(evaluate(one, config, progress=True) for one in embeddings)
    if not per_fold:
        return ModelsResult(each[0].columns, each[0].tensors, each)
    whole = concatenated(embeddings)
    together = evaluate(whole, config, progress=True)
    columns = {
        **_averaged([one.columns for one in each], together.columns),
        **{f"fold{fold}_map_at_r": one.columns["map_at_r"] for fold, one in enumerate(each)},
        "concatenated_dim": whole.rows.shape[1],
    }
    return ModelsResult(columns, _averaged_tensors(each, together), each)


def concatenated(embeddings: Sequence[Embeddings]) -> Embeddings:
    """Concatenate the embeddings of several models and normalise them to unit length.

    Args:
        embeddings: Embeddings of each model, float32 `(N, D)`, for the same images in the same order.

    Returns:
        Embeddings `(N, sum of D)`.
    """
    rows = torch.cat([cast(Tensor, one.rows) for one in embeddings], dim=1)
    return replace(embeddings[0], rows=torch.nn.functional.normalize(rows))


def _averaged(each: Sequence[Mapping[str, Scalar]], together: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return means over the models under plain names and as `separated_*`, and those of `together` as `concatenated_*`."""
    numbers = [name for name, value in each[0].items() if isinstance(value, float)]
    separated = {name: float(np.mean([cast(float, one[name]) for one in each])) for name in numbers}
    return {
        **each[0],  # counts, which are the same for all
        **separated,
        **{f"separated_{name}": value for name, value in separated.items()},
        **{f"{CONCATENATED}{name}": together[name] for name in numbers},
    }


def _averaged_tensors(each: Sequence[EvaluationResult], together: EvaluationResult) -> dict[str, Tensor]:
    names = together.per_query
    return {
        **together.tensors,
        **{name: torch.stack([one.per_query[name] for one in each]).mean(0) for name in names},
        **{f"{CONCATENATED}{name}": together.per_query[name] for name in names},
    }
