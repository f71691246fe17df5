"""Run one trial of a study: train and validate on each of its folds, and stop early if it falls behind."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Protocol, Scalar
from dmlbench.data.folds import training_splits
from dmlbench.data.loader import AnyBatches, Batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure
from dmlbench.models.embedder import Embedder
from dmlbench.system.seeding import derive_seed
from dmlbench.training.checkpoint import History
from dmlbench.training.trained_model import build_model, validation_score
from dmlbench.training.trainer import ValidateFunction, train
from dmlbench.tuning.proposals import Pruner
from dmlbench.tuning.trials import State, Trial


class _PrunedError(Exception):
    """The trial has fallen behind the others."""


@dataclass
class _Progress:
    """What a running trial has measured so far, over all folds."""

    epochs: int  # per fold
    folds: int
    pruner: Pruner | None
    score: str = "validation_map_at_r"  # name of the validation score
    histories: list[History] = field(default_factory=list)
    seconds_before: float = 0.0  # of training before interruptions
    intermediate_values: list[tuple[int, float]] = field(default_factory=list)
    fold_scores: list[float] = field(default_factory=list)  # of finished folds

    def record(self, history: History) -> None:
        """Record the new validations of the current fold, including those of a checkpoint.

        Raises:
            _PrunedError: The trial may stop.
        """
        if history is not self.histories[-1]:  # the first call of the fold; the history may come from a checkpoint
            self.histories[-1] = history
            self.seconds_before += history.seconds
        for evaluation in history.evaluations:
            step = (len(self.histories) - 1) * self.epochs + int(evaluation["epoch"])
            recorded = self.intermediate_values and step <= self.intermediate_values[-1][0]
            if evaluation["epoch"] == 0 or recorded:  # before the first step, all trials have the same score
                continue
            score = float(np.mean([*self.fold_scores, evaluation[self.score]]))
            self.intermediate_values.append((step, score))
            is_last = step == self.folds * self.epochs
            if self.pruner is not None and self.pruner.should_prune(step, score) and not is_last:
                raise _PrunedError


def run_trial(
    number: int,
    values: Mapping[str, Scalar],
    plan: Plan,
    split: Split,
    folder: Path,
    images: Batches | None,
    pruner: Pruner | None,
) -> Trial:
    """Train and score one trial. An interrupted trial resumes from its checkpoints.

    Args:
        number: Number of the trial, from 1.
        values: Hyper-parameters of the trial, by their key below `loss`.
        plan: Plan with these hyper-parameters.
        split: Data set without test images.
        folder: Directory of the trial.
        images: Batches of images; None for the features of a frozen trunk.
        pruner: Decides when to stop early; None to train for all epochs.

    Returns:
        The finished trial.
    """
    began = time.perf_counter()
    parts = training_splits(split, plan.protocol)
    progress = _Progress(plan.protocol.epochs, len(parts), pruner, plan.protocol.validation_score)
    state: State = "complete"
    score, reason = 0.0, None
    try:
        for fold, part in enumerate(parts):
            own = replace(plan, seed=derive_seed(plan.seed, "fold", fold))
            name = f"trial {number}" + (f", fold {fold + 1} of {len(parts)}" if len(parts) > 1 else "")
            _train_fold(own, split, part, folder / f"fold{fold}", images, progress, name)
            progress.fold_scores.append(_score(progress.histories[-1], plan.protocol))
        score = float(np.mean(progress.fold_scores))
    except _PrunedError:
        state, score = "pruned", progress.intermediate_values[-1][1]
    except MethodFailure as failure:
        state, reason = "failed", str(failure)
    return Trial(
        number=number,
        state=state,
        score=score,
        values=dict(values),
        intermediate_values=tuple(progress.intermediate_values),
        epochs=sum(len(history.epochs) for history in progress.histories),
        seconds=round(progress.seconds_before + time.perf_counter() - began, 3),
        n_resumed=sum(history.n_resumed for history in progress.histories),
        reason=reason,
    )


def _train_fold(
    plan: Plan, split: Split, part: Split, folder: Path, images: Batches | None, progress: _Progress, name: str
) -> None:
    """Train and validate the model of one fold."""
    folder.mkdir(parents=True, exist_ok=True)
    progress.histories.append(History())
    trained = build_model(plan, folder, split, images)
    assert trained.objective is not None  # a method that trains nothing has no search space
    with trained.reading():
        validate = _validation_function(part, trained.batches, plan)
        train(trained.model, trained.objective, part, trained.batches, plan, folder, validate, progress.record, name)


def _validation_function(part: Split, batches: AnyBatches, plan: Plan) -> ValidateFunction:
    def validate(model: Embedder) -> dict[str, float]:
        return {plan.protocol.validation_score: validation_score(model, part, batches, plan)}

    return validate


def _score(history: History, protocol: Protocol) -> float:
    """The validation score of the model that the protocol selects."""
    name = protocol.validation_score
    evaluation = history.best(name) if protocol.selection == "validation" else history.evaluations[-1]
    return evaluation[name]
