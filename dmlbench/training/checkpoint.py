"""The history of a training, and the checkpoints from which it resumes."""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dmlbench.system.atomic_write import atomic_write


@dataclass
class History:
    """What was measured during training.

    Args:
        epochs: One entry per epoch: `epoch` (from 1), `loss` (mean over its steps), `lr` (at its end; of the trunk, or of the
            head if the trunk is frozen), `seconds` and `images_per_second`.
        n_resumed: How often training resumed from a checkpoint.
        evaluations: One entry per evaluation during training: `epoch` (0 is before the first step), and
            `validation_map_at_r`, `test_map_at_r` or both, in [0, 1].
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    n_resumed: int = 0
    evaluations: list[dict[str, float]] = field(default_factory=list)

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
    file: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, history: History
) -> None:
    """Write everything that `resume` needs. An interrupted write leaves the previous checkpoint.

    Args:
        file: File to write.
        model: Model in training.
        objective: Its objective.
        optimizer: Its optimizer.
        history: Its history.
    """
    state = {
        "model": model.state_dict(),
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": dataclasses.asdict(history),
    }
    save(file, state)


def save(file: Path, state: dict[str, Any]) -> None:
    """Write a state that `torch.load(file, weights_only=True)` reads.

    Args:
        file: File to write.
        state: Tensors and plain Python values.
    """
    atomic_write(file, lambda stream: torch.save(state, stream))


def resume(file: Path, model: nn.Module, objective: nn.Module, optimizer: torch.optim.Optimizer, oracle: bool) -> History:
    """Restore the state of a training from its checkpoint.

    Args:
        file: Checkpoint; it may be missing.
        model: Receives the saved state.
        objective: Receives the saved state.
        optimizer: Receives the saved state.
        oracle: Whether the history needs evaluations on the test set.

    Returns:
        The saved history. An empty history if training has to start from the first step: there is no checkpoint, it cannot be
        read, or it lacks the evaluations on the test set that the oracle needs.
    """
    if not file.is_file():
        return History()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if "looks" in state["history"]:  # the name of this entry in earlier versions
            state["history"]["evaluations"] = state["history"].pop("looks")
        history = History(**state["history"])
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, pickle.UnpicklingError):
        tqdm.write(f"{file} cannot be read; training starts from the first step")
        return History()
    if oracle and "test_map_at_r" not in (history.evaluations or [{}])[0]:
        return History()
    model.load_state_dict(state["model"])
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    history.n_resumed += 1
    return history
