"""A study: the hyper-parameter search of one method, shared by all seeds and all processes that need it.

Trial 1 uses the hyper-parameters of the configuration; every further trial is proposed from the trials before it. A trial
trains on all folds of the training classes but one, and its score is the protocol's `selection_metric` on that fold, MAP@R by
default. A study loads no test image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dmlbench.config.plan import Plan, method_columns
from dmlbench.config.schema import Scalar, Tuning
from dmlbench.data.folds import training_splits
from dmlbench.data.loader import Batches, make_batches
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results.columns import identity_digest
from dmlbench.system.atomic_write import atomic_write, remove_stale_temporaries
from dmlbench.system.seeding import derive_seed
from dmlbench.training.environment import make_deterministic
from dmlbench.tuning.history import BEST_VALUES, CSV, PICTURE, write_history
from dmlbench.tuning.proposals import Pruner, propose, require_optuna
from dmlbench.tuning.rate_source import rate_source
from dmlbench.tuning.space import Space, canonical, format_values, initial_values, search_space
from dmlbench.tuning.trial_run import run_trial
from dmlbench.tuning.trials import (
    VALUES,
    Trial,
    best_trial,
    read_trial,
    read_trials,
    read_values,
    remove_finished_folders,
    trial_folder,
    trial_lock,
    write_trial,
    write_values,
)

STUDY = "study.json"  # what determines the trials
FILES = frozenset({STUDY, VALUES, BEST_VALUES, CSV, PICTURE})
UNPRUNED_PART = 3  # trials are not pruned during the first third of the epochs of a fold


@dataclass(frozen=True)
class Study:
    """The hyper-parameter search of one method.

    Args:
        tuning: Budget of the search.
        plan: Plan of a trial with the hyper-parameters of the configuration.
        plan_with: Returns the plan of a trial with other hyper-parameters, which it takes by their key below `loss`.
        split: Data set without test images.
    """

    tuning: Tuning
    plan: Plan
    plan_with: Callable[[Mapping[str, Scalar]], Plan]
    split: Split

    @cached_property
    def space(self) -> Space:
        """The search space of the method, checked."""
        return search_space(self.plan.method, self.plan.protocol)

    @cached_property
    def configured_values(self) -> dict[str, Scalar]:
        """The hyper-parameters of the configuration, which trial 1 uses."""
        return initial_values(self.space, self.plan.method, self.plan.protocol)

    @property
    def identity(self) -> dict[str, object]:
        """Everything that determines a trial, except its number. The number of trials is left out, so that it can be raised."""
        excluded = ("tuning_trials", "split_recall_at")
        shared = {name: value for name, value in self.plan.shared.items() if name not in excluded}
        # The space says which rates are searched, and `lr_from` whose rates the first trial has.
        shared["lr_from"] = rate_source(self.plan.method, self.plan.protocol, tuned=False)
        return {"space": canonical(self.space), **shared, **method_columns(self.plan.method)}

    @property
    def folder(self) -> Path:
        """Directory of the study, beside the runs of the method."""
        return self.plan.folder.parent / f"tune-{identity_digest(self.identity)}"

    def accepts(self, values: Mapping[str, Any]) -> bool:
        """Return whether values from a file are in the search space. Others could name a constructor.

        Args:
            values: Hyper-parameters of a trial, by their key below `loss`.
        """
        keys_agree = isinstance(values, Mapping) and values.keys() == self.space.keys()
        return keys_agree and all(allowed.contains(values[key]) for key, allowed in self.space.items())

    def refuse_foreign(self, number: int, values: Mapping[str, Any]) -> None:
        """Refuse values from a file that are not in the search space.

        Args:
            number: Number of the trial.
            values: Its hyper-parameters, by their key below `loss`.

        Raises:
            UserError: A key is missing or unknown, or a value is outside of the space.
        """
        if not self.accepts(values):
            raise UserError(
                f"{trial_folder(self.folder, number)} has values outside of the search space of loss/{self.plan.method.name}; "
                "delete it, and the .json file of the same name, to run the trial again"
            )

    @property
    def trial_numbers(self) -> Sequence[int]:
        """Numbers of the trials in the budget."""
        return range(1, self.tuning.trials + 1)


def search(study: Study, wait: bool, report: Callable[[str], None]) -> list[Trial] | None:
    """Run the trials of a study that are not finished. Several processes may share the trials.

    Args:
        study: Study to run.
        wait: Wait for trials that other processes are running, once no other trial is left.
        report: Prints a line.

    Returns:
        The trials of the budget, by number; None if other processes are still running some and `wait` is false.

    Raises:
        UserError: The search space is wrong, the loss refuses a value of it, or optuna is missing.
    """
    require_optuna()
    study.configured_values  # noqa: B018 -- checks the search space before any work
    for line in announcement(study):
        report(line)
    remove_stale_temporaries(study.folder)  # of trials that were killed; those of running ones are kept
    remove_finished_folders(study.folder)
    atomic_write(study.folder / STUDY, json.dumps(study.identity, indent=1, default=str) + "\n")
    for trial in all_trials(study):
        study.refuse_foreign(trial.number, trial.values)
    images: Batches | None = None
    metric = study.plan.protocol.selection_metric
    while unfinished := [number for number in study.trial_numbers if read_trial(study.folder, number) is None]:
        ran_one = False
        for number in unfinished:
            with trial_lock(study.folder, number) as acquired:
                if acquired and read_trial(study.folder, number) is None:  # another process may have finished it meanwhile
                    ran_one = True
                    make_deterministic(study.plan.protocol.threads)
                    if images is None and not study.plan.protocol.trunk_frozen:
                        images = make_batches(study.plan, study.split)
                    trial = _run(study, number, images)
                    write_trial(study.folder, trial)
                    report(_describe(study, trial))
                    write_history(study.folder, study.space, all_trials(study), picture=False, metric=metric)
        if not ran_one:
            if not wait:
                return None
            with trial_lock(study.folder, unfinished[0], wait=True):
                pass  # the process that held the lock has finished the trial, or was killed
    write_history(study.folder, study.space, all_trials(study), picture=True, metric=metric)
    finished_trials = read_trials(study.folder, study.trial_numbers)
    for trial in finished_trials:
        study.refuse_foreign(trial.number, trial.values)
    return finished_trials


def _run(study: Study, number: int, images: Batches | None) -> Trial:
    """Run one trial, whose lock is held. An interrupted trial keeps its hyper-parameters."""
    finished = read_trials(study.folder, range(1, number))
    values = read_values(study.folder, number) or _choose_values(study, number, finished)
    study.refuse_foreign(number, values)
    write_values(study.folder, number, values)
    plan = study.plan_with(values)
    warmup = plan.protocol.epochs // UNPRUNED_PART + 1
    pruner = Pruner(study.space, finished, warmup) if study.tuning.prune else None
    return run_trial(number, values, plan, study.split, trial_folder(study.folder, number), images, pruner)


def _choose_values(study: Study, number: int, finished: Sequence[Trial]) -> dict[str, Scalar]:
    if number == 1:
        return dict(study.configured_values)
    finished_numbers = {trial.number for trial in finished}
    running = [read_values(study.folder, other) for other in range(1, number) if other not in finished_numbers]
    seed = derive_seed(study.tuning.seed, "trial", number)
    return propose(study.space, finished, [values for values in running if values is not None and study.accepts(values)], seed)


def all_trials(study: Study) -> list[Trial]:
    """Read all finished trials of a study, including those beyond the budget.

    Args:
        study: Study to read.

    Returns:
        The trials, by number.
    """
    files = sorted((study.folder / "trials").glob("*.json"))
    return read_trials(study.folder, [int(file.stem) for file in files if file.stem.isdigit()])


def tuning_columns(study: Study, trials: Sequence[Trial]) -> dict[str, Scalar]:
    """Return the columns that describe the hyper-parameter search of a run.

    Args:
        study: The study.
        trials: Finished trials of the budget, by number.
    """
    best, metric = best_trial(trials), study.plan.protocol.selection_metric
    return {
        **({"tuned_metric": metric} if metric != "map_at_r" else {}),
        "tuned_values": json.dumps(dict(best.values)),
        "tuned_score": best.score,
        "tuned_trial": best.number,
        "tuned_study": study.folder.name,
        "tuned_space": json.dumps(canonical(study.space)),
        "n_tuning_trials": len(trials),
        "n_tuning_pruned": sum(trial.state == "pruned" for trial in trials),
        "n_tuning_failed": sum(trial.state == "failed" for trial in trials),
        "n_tuning_epochs": sum(trial.epochs for trial in trials),
        "optuna_version": version("optuna"),
        "tuned_hours": round(sum(trial.seconds for trial in trials) / 3600, 5),
    }


def announcement(study: Study) -> list[str]:
    """Return the lines that describe a search before it starts.

    Args:
        study: Study to describe.
    """
    tuning, plan = study.tuning, study.plan
    n_finished = len(read_trials(study.folder, study.trial_numbers))
    finished = f" ({n_finished} finished)" if n_finished else ""
    pruning = ", stopped early if behind the median" if tuning.prune else ""
    return [
        f"tuning    {plan.method.label}: {_count(tuning.trials, 'trial')}{finished}, {_count(plan.protocol.epochs, 'epoch')} "
        f"each{pruning}; validation on {_validation_folds(study)}; test images are not loaded",
        f"space     {', '.join(f'{key} {allowed}' for key, allowed in study.space.items())}; in {study.folder}",
    ]


def _validation_folds(study: Study) -> str:
    tuning = study.tuning
    if tuning.fold == "all":
        return f"each of {tuning.folds} folds of the training classes in turn"
    part = training_splits(study.split, study.plan.protocol)[0]
    n_validation, n_training = (len(np.unique(part.labels(role))) for role in ("val", "train"))
    classes = f"{n_validation:,} classes, the other {n_training:,} for training"
    return f"fold {tuning.fold} of {tuning.folds} of the training classes ({classes})"


def _describe(study: Study, trial: Trial) -> str:
    """A line that reports the result of a trial, the best trial so far, and the estimated time left."""
    trials = read_trials(study.folder, study.trial_numbers)
    best = best_trial(trials)
    results = {
        "complete": f"{trial.score:.1%}",
        "pruned": f"pruned at {trial.score:.1%}",
        "failed": f"failed: {trial.reason}",
    }
    seconds = (study.tuning.trials - len(trials)) * sum(one.seconds for one in trials) / len(trials)
    left = f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left" if seconds else ""
    return (
        f"trial {trial.number} of {study.tuning.trials}: {results[trial.state]} (best {best.score:.1%}, trial {best.number}), "
        f"{format_values(trial.values)}{left}"
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
