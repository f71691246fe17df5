"""The history of a training, and the checkpoints from which it resumes."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dmlbench.errors import UserError
from dmlbench.models.state_files import UnreadableStateError, load_state, save_state
from dmlbench.results import run_files
from dmlbench.system.atomic_write import atomic_write
from dmlbench.training import processes


@dataclass
class History:
    """What was measured during training.

    Args:
        epochs: One entry per epoch: `epoch` (from 1), `loss` (mean over its steps), `lr` (at its end; of the trunk, or of the
            head if the trunk is frozen), `seconds` and `images_per_second`.
        n_resumed: How often training resumed from a checkpoint.
        evaluations: One entry per evaluation during training: `epoch` (0 is before the first step), and
            `validation_map_at_r` (or another metric of the protocol), `test_map_at_r` or both.
        proxy_turn: Mean angle by which proxies turned in the first steps, in degrees; None without proxies.
        run: Name of the training, which no other one has. Empty in checkpoints of earlier versions.
        sampler: What the sampler keeps between epochs: tensors and numbers. Empty for most samplers.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    n_resumed: int = 0
    evaluations: list[dict[str, float]] = field(default_factory=list)
    proxy_turn: float | None = None
    run: str = ""
    sampler: dict[str, Any] = field(default_factory=dict)

    def best(self, score: str) -> dict[str, float]:
        """Return the evaluation with the highest score, the earliest one if several are equal.

        Args:
            score: Name of the score, such as `validation_map_at_r`.
        """
        return max(self.evaluations, key=lambda evaluation: evaluation[score])

    @property
    def seconds(self) -> float:
        """Time spent in training, including the time before interruptions, in seconds."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def images_per_second(self) -> float | None:
        """Median over the epochs; None before the first epoch."""
        return float(np.median([epoch["images_per_second"] for epoch in self.epochs])) if self.epochs else None

    def write(self, file: Path) -> None:
        """Write one line of JSON per epoch, with the scores of its evaluation if there was one.

        Args:
            file: File to write.
        """
        evaluations = {evaluation["epoch"]: evaluation for evaluation in self.evaluations}
        lines = [{**epoch, **evaluations.get(epoch["epoch"], {})} for epoch in self.epochs]
        if 0 in evaluations:
            lines.insert(0, evaluations[0])
        atomic_write(file, "".join(json.dumps(line) + "\n" for line in lines))


def save_checkpoint(
    folder: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, history: History
) -> None:
    """Write everything that `resume` needs, and the history as text. An interrupted write leaves the previous checkpoint.

    Of several processes, only the first one writes.

    Args:
        folder: Directory of the files.
        model: Model in training.
        objective: Its objective.
        optimizer: Its optimizer.
        history: Its history.
    """
    if not processes.is_first():
        return
    state = {
        "model": model.state_dict(),
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": dataclasses.asdict(history),
    }
    history.write(folder / run_files.HISTORY)
    save_state(folder / run_files.CHECKPOINT, state)


def resume(
    file: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, oracle: bool, run: str = ""
) -> History:
    """Restore the state of a training from its checkpoint.

    Args:
        file: Checkpoint; it may be missing.
        model: Receives the saved state.
        objective: Receives the saved state.
        optimizer: Receives the saved state.
        oracle: Whether the history needs evaluations on the test set.
        run: Name of the training, which the history records. Empty to accept any.

    Returns:
        The saved history. An empty history if training has to start from the first step: there is no checkpoint, it cannot be
        read, or it lacks the evaluations on the test set that the oracle needs.

    Raises:
        UserError: The checkpoint belongs to another training, model, objective or optimizer.
    """
    if not os.path.lexists(file):
        return History(run=run)
    try:
        state = load_state(file)
        history = _history_of(state)
    except (UnreadableStateError, LookupError, TypeError) as error:
        reason = f": {error}" if isinstance(error, UnreadableStateError) else ""
        tqdm.write(f"{file} cannot be read{reason}; training starts from the first step")
        return History(run=run)
    _refuse_other_run(file, history.run, run)
    if oracle and "test_map_at_r" not in (history.evaluations or [{}])[0]:
        return History(run=run)
    if run and not history.run:
        tqdm.write(f"{file} is of an earlier version, which did not record the run; training resumes from it")
    for name, part in (("model", model), ("objective", objective), ("optimizer", optimizer)):
        _restore(file, name, part, state)
    history.n_resumed += 1
    history.run = run
    return history


def _refuse_other_run(file: Path, found: str, run: str) -> None:
    if run and found and found != run:
        raise UserError(
            f"{file} belongs to another training ({found}), not to this one ({run}); delete it to train from the first step"
        )


def load_model(file: Path, model: nn.Module, device: str, run: str = "") -> None:
    """Restore a model from a file that contains it under `model`.

    Args:
        file: File to read.
        model: Receives the saved state.
        device: Device of the model.
        run: Name of the training that wrote the file under `run`. Empty to accept any.

    Raises:
        UserError: The file cannot be read, belongs to another training, or contains another model.
    """
    try:
        state = load_state(file, device)
    except UnreadableStateError as error:
        raise UserError(
            f"{file} cannot be read: {error}; delete it and {run_files.CHECKPOINT} beside it, and the same command trains from "
            "the first step"
        ) from error
    _refuse_other_run(file, str(state.get("run", "")), run)
    _restore(file, "model", model, state)


def _history_of(state: dict[str, Any]) -> History:
    entries = dict(state["history"])
    if "looks" in entries:  # the name of this entry in earlier versions
        entries["evaluations"] = entries.pop("looks")
    history = History(**entries)
    if not all(isinstance(epoch, dict) for epoch in [*history.epochs, *history.evaluations]):
        raise TypeError("an entry of the history is not a mapping")
    if not isinstance(history.run, str):
        raise TypeError("the name of the training is not text")
    if not isinstance(history.sampler, dict):
        raise TypeError("the state of the sampler is not a mapping")
    return history


def _restore(file: Path, name: str, part: nn.Module | torch.optim.Optimizer, state: dict[str, Any]) -> None:
    try:
        part.load_state_dict(state[name])
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = next((line for line in lines if not line.startswith("Error(s) in loading")), type(error).__name__)
        raise UserError(
            f"{file} does not fit the {name} of this run ({reason.rstrip('.')}): code has changed since it was written; "
            "restore the code to continue, or delete the file to train from the first step"
        ) from error
