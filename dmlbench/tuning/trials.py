"""The trials of a study as files: one a trial that ended, one lock a trial at work.

    trials/0007.json    trial 7, written last and by rename: its existence means that the trial counts
    trials/0007.lock    held by the process that is at it; the system lets go of it however that process ends
    trials/0007/        its values, then its checkpoints, until it ends

A trial is its number: whoever takes up the number of one that was killed finds its values and its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dmlbench.config.schema import Scalar
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.locks import locked

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One trial that ended.

    Args:
        number: from 1.
        state: `complete`; `pruned`: it fell behind the others and was ended early; `failed`: the method broke down.
        score: validation MAP@R, in [0, 1]; of a pruned trial the last; 0 of a failed one.
        values: what was tried.
        intermediate_values: step and validation MAP@R, at every look; a step is an epoch, counted on through the folds.
        epochs: trained, in all folds.
        seconds: it took, before and after every break.
        n_resumed: how often it went on from a checkpoint.
        reason: of a failed trial.
    """

    number: int
    state: State
    score: float
    values: Mapping[str, Scalar]
    intermediate_values: Sequence[tuple[int, float]] = ()
    epochs: int = 0
    seconds: float = 0.0
    n_resumed: int = 0
    reason: str | None = None


def trial_folder(folder: Path, number: int) -> Path:
    """The folder of a trial at work; its file and its lock lie beside it."""
    return folder / "trials" / f"{number:04d}"


def read_trial(folder: Path, number: int) -> Trial | None:
    """A trial that ended; None where it did not, or its file holds no trial."""
    try:
        values = json.loads(trial_folder(folder, number).with_suffix(".json").read_text(encoding="utf-8"))
        if "course" in values:  # its name in earlier versions
            values["intermediate_values"] = values.pop("course")
        found = Trial(**values)
    except (OSError, ValueError, TypeError):
        return None
    return found if found.number == number else None


def read_trials(folder: Path, numbers: Sequence[int]) -> list[Trial]:
    """Those of some trials that ended, in the order of their numbers."""
    return [found for number in numbers if (found := read_trial(folder, number)) is not None]


def write_trial(folder: Path, trial: Trial) -> None:
    """Write down how a trial ended, then remove what it left."""
    place = trial_folder(folder, trial.number)
    atomic_write(place.with_suffix(".json"), json.dumps(dataclasses.asdict(trial), indent=1) + "\n")
    shutil.rmtree(place, ignore_errors=True)


def read_values(folder: Path, number: int) -> dict[str, Any] | None:
    """The values of a trial at work, or of one that was killed; None where it has none yet."""
    try:
        found = json.loads((trial_folder(folder, number) / "values.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_values(folder: Path, number: int, values: Mapping[str, Scalar]) -> None:
    """Write down what a trial tries, before its first step."""
    atomic_write(trial_folder(folder, number) / "values.json", json.dumps(dict(values)) + "\n")


def best_trial(trials: Sequence[Trial]) -> Trial:
    """The complete trial with the highest score, of equals the first; the first of all where none is complete."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return max(complete or trials[:1], key=lambda trial: (trial.score, -trial.number))


def trial_lock(folder: Path, number: int, wait: bool = False) -> AbstractContextManager[bool]:
    """Hold the lock of a trial.

    Args:
        folder: of the study.
        number: of the trial.
        wait: for the process that holds it; else it is not ours.

    Returns:
        A context that tells whether the lock is ours.
    """
    return locked(trial_folder(folder, number).with_suffix(".lock"), waiting=(lambda: None) if wait else None)
