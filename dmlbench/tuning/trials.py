"""The files of a study: one file per finished trial, and one lock and one directory per running trial.

    trials/0007.json    trial 7; written last and by rename, so its existence means that the trial is finished
    trials/0007.lock    held by the process that runs the trial; the system releases it when the process ends
    trials/0007/        hyper-parameters and checkpoints of the trial; removed when it is finished

A trial is identified by its number. A process that resumes an interrupted trial reads its hyper-parameters and its checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dmlbench.config.schema import Scalar
from dmlbench.config.typed import typed
from dmlbench.errors import UserError
from dmlbench.results.row import ROUNDING
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.locks import locked
from dmlbench.system.regular_files import NotARegularFileError, read_json

State = Literal["complete", "pruned", "failed"]
VALUES = "values.json"  # hyper-parameters of a running trial


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Args:
        number: Number of the trial, from 1.
        state: `complete`; `pruned` if it was stopped early because it fell behind others; `failed` if the method broke down.
        score: Validation score, MAP@R or another metric of the protocol: the last one for a pruned trial, 0 for a failed one.
        values: Hyper-parameters of the trial, by their key below `loss`.
        intermediate_values: Step and validation score of every validation. A step is an epoch, counted over all folds.
        epochs: Number of trained epochs, over all folds.
        seconds: Duration in seconds, including the time before interruptions.
        n_resumed: How often the trial resumed from a checkpoint.
        reason: Why the method broke down; None unless it did.
    """

    number: int
    state: State
    score: float
    values: dict[str, Scalar]
    intermediate_values: tuple[tuple[int, float], ...] = ()
    epochs: int = 0
    seconds: float = 0.0
    n_resumed: int = 0
    reason: str | None = None


def trial_folder(folder: Path, number: int) -> Path:
    """Return the directory of a running trial. Its file and its lock are beside it.

    Args:
        folder: Directory of the study.
        number: Number of the trial.
    """
    return folder / "trials" / f"{number:04d}"


def read_trial(folder: Path, number: int) -> Trial | None:
    """Read a finished trial.

    Args:
        folder: Directory of the study.
        number: Number of the trial.

    Returns:
        The trial; None if it is not finished, or its file is incomplete or of another trial.

    Raises:
        UserError: The file is not a regular file, or contains a value that no trial has.
    """
    file = trial_folder(folder, number).with_suffix(".json")
    try:
        fields = read_json(file)
    except NotARegularFileError as error:
        raise UserError(f"{error}; delete it to run the trial again") from error
    except (OSError, ValueError):
        return None
    if not isinstance(fields, dict) or not fields.keys() >= _REQUIRED:
        return None
    if "course" in fields:  # the name of this field in earlier versions
        fields["intermediate_values"] = fields.pop("course")
    try:
        trial = typed(Trial, "trial", fields)
        _refuse_impossible(trial)
    except UserError as error:
        raise UserError(f"{file}: {error}; delete it to run the trial again") from None
    return trial if trial.number == number else None


_REQUIRED = {one.name for one in dataclasses.fields(Trial) if one.default is dataclasses.MISSING}
_MAX_SECONDS = 1e9  # 30 years


def _refuse_impossible(trial: Trial) -> None:
    """Refuse numbers that are out of their range, and hyper-parameters that are not scalars."""
    scores = {"score": [trial.score], "intermediate_values": [score for _, score in trial.intermediate_values]}
    for name, found in scores.items():
        for score in found:
            if not -1 <= score <= 1 + ROUNDING:  # AMI may be below 0
                raise UserError(f"trial.{name} has the score {score!r}, which has to be a number from -1 to 1")
    counts: dict[str, tuple[float, float]] = {
        "epochs": (trial.epochs, sys.maxsize),
        "n_resumed": (trial.n_resumed, sys.maxsize),
        "seconds": (trial.seconds, _MAX_SECONDS),
    }
    for name, (count, most) in counts.items():
        if not 0 <= count <= most:
            raise UserError(f"trial.{name} is {count!r}, which has to be a number from 0 to {most:,.0f}")
    for key, value in trial.values.items():
        if value is not None and not isinstance(value, str | int | float):
            raise UserError(f"trial.values has {value!r} for {key}; it needs text, a number, true, false or null")


def read_trials(folder: Path, numbers: Sequence[int]) -> list[Trial]:
    """Read the finished ones of some trials.

    Args:
        folder: Directory of the study.
        numbers: Numbers of the trials.

    Returns:
        The finished trials, in the order of `numbers`.
    """
    return [trial for number in numbers if (trial := read_trial(folder, number)) is not None]


def write_trial(folder: Path, trial: Trial) -> None:
    """Write a finished trial, then remove its directory.

    Args:
        folder: Directory of the study.
        trial: Trial to write.
    """
    directory = trial_folder(folder, trial.number)
    atomic_write(directory.with_suffix(".json"), json.dumps(dataclasses.asdict(trial), indent=1) + "\n")
    shutil.rmtree(directory, ignore_errors=True)


def remove_finished_folders(folder: Path) -> None:
    """Remove the directories of finished trials that a killed process left.

    Args:
        folder: Directory of the study.
    """
    for directory in folder.glob("trials/[0-9]*/"):
        if directory.name.isdecimal() and read_trial(folder, int(directory.name)) is not None:
            with trial_lock(folder, int(directory.name)) as acquired:
                if acquired:
                    shutil.rmtree(directory, ignore_errors=True)


def read_values(folder: Path, number: int) -> dict[str, Any] | None:
    """Read the hyper-parameters of a trial that is running or was interrupted.

    Args:
        folder: Directory of the study.
        number: Number of the trial.

    Returns:
        The hyper-parameters, by their key below `loss`; None if the trial has none yet.
    """
    try:
        values = read_json(trial_folder(folder, number) / VALUES)
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def write_values(folder: Path, number: int, values: Mapping[str, Scalar]) -> None:
    """Write the hyper-parameters of a trial, before its first step.

    Args:
        folder: Directory of the study.
        number: Number of the trial.
        values: Hyper-parameters, by their key below `loss`.
    """
    atomic_write(trial_folder(folder, number) / VALUES, json.dumps(dict(values)) + "\n")


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the complete trial with the highest score, the earliest one if several are equal.

    Args:
        trials: Finished trials, by number; at least one.

    Returns:
        The best trial; the first one if no trial is complete.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    return max(complete or trials[:1], key=lambda trial: (trial.score, -trial.number))


def trial_lock(folder: Path, number: int, wait: bool = False) -> AbstractContextManager[bool]:
    """Acquire the lock of a trial.

    Args:
        folder: Directory of the study.
        number: Number of the trial.
        wait: Wait for a process that holds the lock.

    Returns:
        A context that yields whether the lock was acquired, which is always the case with `wait`.
    """
    return locked(trial_folder(folder, number).with_suffix(".lock"), waiting=(lambda: None) if wait else None)
