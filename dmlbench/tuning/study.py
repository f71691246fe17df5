"""A study: the trials of one method, shared by all seeds and all processes that need them.

Trial 1 is the method's own values; each further one is proposed from those before it. A trial trains on all folds of the
training classes but one, and its score is MAP@R on that one. The split of a study holds no test image.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dmlbench.config.plan import Plan, method_columns
from dmlbench.config.schema import Scalar, Tuning
from dmlbench.data.folds import training_splits
from dmlbench.data.loader import AnyBatches, Batches, make_batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure
from dmlbench.models.embedder import Embedder
from dmlbench.results.columns import identity_digest
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.seeding import derive_seed
from dmlbench.training.environment import make_deterministic
from dmlbench.training.trained_model import build_model, map_at_r_on
from dmlbench.training.trainer import History, train
from dmlbench.tuning.history import write_history
from dmlbench.tuning.proposals import Pruner, propose, require_optuna
from dmlbench.tuning.space import Space, canonical, initial_values, parse_space, said
from dmlbench.tuning.trials import (
    State,
    Trial,
    best_trial,
    read_trial,
    read_trials,
    read_values,
    trial_folder,
    trial_lock,
    write_trial,
    write_values,
)

UNPRUNED = 3  # no trial is ended in the first third of a fold's epochs


@dataclass(frozen=True)
class Study:
    """What is searched, and where.

    Args:
        tuning: how.
        plan: of a trial with the method's own values.
        plan_with: the plan of a trial with other values.
        split: without any test image.
    """

    tuning: Tuning
    plan: Plan
    plan_with: Callable[[Mapping[str, Scalar]], Plan]
    split: Split

    @cached_property
    def space(self) -> Space:
        """The method's own, checked; empty where its file names none."""
        return parse_space(self.plan.method.search)

    @cached_property
    def start(self) -> dict[str, Scalar]:
        """The method's own values."""
        return initial_values(self.space, self.plan.method)

    @property
    def identity(self) -> dict[str, object]:
        """All that decides a trial but its number: a larger budget goes on with the same study."""
        apart = ("tuning_trials", "split_recall_at")
        shared = {name: value for name, value in self.plan.shared.items() if name not in apart}
        return {"space": canonical(self.space), **shared, **method_columns(self.plan.method)}

    @property
    def folder(self) -> Path:
        """Where the trials lie, beside the method's runs."""
        return self.plan.folder.parent / f"tune-{identity_digest(self.identity)}"

    @property
    def numbers(self) -> Sequence[int]:
        """Of the trials in the budget."""
        return range(1, self.tuning.trials + 1)


def search(study: Study, wait: bool, tell: Callable[[str], None]) -> list[Trial] | None:
    """Bring a study to its budget, together with every other process that is at it.

    Args:
        study: whose method names a space.
        wait: for the trials that other processes are at, once none is left to begin.
        tell: prints a line.

    Returns:
        The trials of the budget, by number; None where others are still at some and `wait` is false.

    Raises:
        UserError: the space is wrong, a value that it allows is refused by the loss, or optuna is missing.
    """
    require_optuna()
    study.start  # noqa: B018 -- refused before any work
    for line in announcement(study):
        tell(line)
    atomic_write(study.folder / "study.json", json.dumps(study.identity, indent=1, default=str) + "\n")
    images: Batches | None = None
    while missing := [number for number in study.numbers if read_trial(study.folder, number) is None]:
        began_one = False
        for number in missing:
            with trial_lock(study.folder, number) as ours:
                if ours and read_trial(study.folder, number) is None:  # else another process has just ended it
                    began_one = True
                    make_deterministic(study.plan.protocol.threads)
                    if images is None and not study.plan.protocol.trunk_frozen:
                        images = make_batches(study.plan, study.split)
                    trial = run_trial(study, number, images)
                    write_trial(study.folder, trial)
                    tell(_line(study, trial))
                    write_history(study.folder, study.space, all_trials(study), picture=False)
        if not began_one:
            if not wait:
                return None
            with trial_lock(study.folder, missing[0], wait=True):
                pass  # whoever was at it has ended it, or was killed
    write_history(study.folder, study.space, all_trials(study), picture=True)
    return read_trials(study.folder, study.numbers)


def all_trials(study: Study) -> list[Trial]:
    """Every trial that ended, of a larger budget too."""
    files = sorted((study.folder / "trials").glob("*.json"))
    return read_trials(study.folder, [int(file.stem) for file in files if file.stem.isdigit()])


class _PrunedError(Exception):
    """The trial has fallen behind."""


@dataclass
class _Course:
    """A trial at work: what it has scored so far, fold after fold."""

    epochs: int  # of a fold
    folds: int
    pruner: Pruner | None
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)  # of folds that are done

    def on_epoch_end(self, fold: int, history: History) -> None:
        """Take note of the evaluations that are new; those of a checkpoint that was taken up are new, too.

        Raises:
            _PrunedError: the trial may end.
        """
        for look in history.evaluations:
            step = fold * self.epochs + int(look["epoch"])
            if look["epoch"] == 0 or (self.evaluations and step <= self.evaluations[-1][0]):
                continue  # before the first step all trials score alike
            self.evaluations.append((step, float(np.mean([*self.scores, look["validation_map_at_r"]]))))
            last = step == self.folds * self.epochs
            if self.pruner is not None and self.pruner.ends(*self.evaluations[-1]) and not last:
                raise _PrunedError


def run_trial(study: Study, number: int, images: Batches | None) -> Trial:
    """Train and score one trial, whose lock is held; one that was killed goes on with its values from its checkpoint.

    Args:
        study: of this trial.
        number: from 1.
        images: to read; None for the features of a frozen trunk.
    """
    began, earlier = time.perf_counter(), 0.0
    before = read_trials(study.folder, range(1, number))
    values = read_values(study.folder, number) or _values(study, number, before)
    write_values(study.folder, number, values)
    plan = study.plan_with(values)
    protocol, parts = plan.protocol, training_splits(study.split, plan.protocol)
    pruner = Pruner(study.space, before, protocol.epochs // UNPRUNED + 1) if study.tuning.prune else None
    course = _Course(protocol.epochs, len(parts), pruner)
    histories: list[History] = []
    state: State = "complete"
    reason = None
    score = 0.0  # of a method that fails
    try:
        for fold, part in enumerate(parts):
            own = replace(plan, seed=derive_seed(plan.seed, "fold", fold))
            folder = trial_folder(study.folder, number) / f"fold{fold}"
            folder.mkdir(parents=True, exist_ok=True)
            histories.append(History())

            def on_epoch_end(history: History, fold: int = fold) -> None:
                nonlocal earlier
                if history is not histories[fold]:
                    histories[fold], earlier = history, earlier + history.seconds  # of a checkpoint that was taken up
                course.on_epoch_end(fold, history)

            one = build_model(own, folder, study.split, images)
            assert one.objective is not None  # a method that is not trained has nothing to search
            with one.reading():
                train(one.model, one.objective, part, one.batches, own, folder, _watch(part, one.batches, own), on_epoch_end)
            course.scores.append(_score(histories[fold], protocol.selection))
        score = float(np.mean(course.scores))
    except _PrunedError:
        state, score = "pruned", course.evaluations[-1][1]
    except MethodFailure as failure:
        state, reason = "failed", str(failure)
    return Trial(
        number=number,
        state=state,
        score=score,
        values=values,
        intermediate_values=course.evaluations,
        epochs=sum(len(history.epochs) for history in histories),
        seconds=round(earlier + time.perf_counter() - began, 3),
        n_resumed=sum(history.n_resumed for history in histories),
        reason=reason,
    )


def _values(study: Study, number: int, before: Sequence[Trial]) -> dict[str, Scalar]:
    if number == 1:
        return dict(study.start)
    ended = {trial.number for trial in before}
    at_work = [read_values(study.folder, other) for other in range(1, number) if other not in ended]
    seed = derive_seed(study.tuning.seed, "trial", number)
    return propose(study.space, before, [values for values in at_work if values is not None], seed)


def _watch(part: Split, batches: AnyBatches, plan: Plan) -> Callable[[Embedder], dict[str, float]]:
    return lambda model: {"validation_map_at_r": map_at_r_on(model, part, ("val", "val"), batches, plan)}


def _score(history: History, selection: str) -> float:
    """What the protocol's own selection would report of a training, on the classes held out."""
    look = history.best("validation_map_at_r") if selection == "validation" else history.evaluations[-1]
    return look["validation_map_at_r"]


def tuning_columns(study: Study, trials: Sequence[Trial]) -> dict[str, Scalar]:
    """What a row tells of the search for its values."""
    best = best_trial(trials)
    return {
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
    """A few lines that say what will be searched."""
    tuning, plan = study.tuning, study.plan
    done = len(read_trials(study.folder, study.numbers))
    part = training_splits(study.split, plan.protocol)[0]
    held = (
        f"each of {tuning.folds} folds in turn validates"
        if tuning.fold == "all"
        else (
            f"fold {tuning.fold} of {tuning.folds} validates, {len(np.unique(part.labels('val'))):,} classes; "
            f"{len(np.unique(part.labels('train'))):,} train"
        )
    )
    pruned = ", ended early if behind the median" if tuning.prune else ""
    return [
        f"tuning    {plan.method.label}: {tuning.trials} trials{f' ({done} done before)' if done else ''}, each "
        f"{plan.protocol.epochs} epochs{pruned}; of the training classes {held}; no test image is loaded",
        f"space     {', '.join(f'{key} {allowed}' for key, allowed in study.space.items())}; in {study.folder}",
    ]


def _line(study: Study, trial: Trial) -> str:
    """How a trial ended, and how long the others may take."""
    trials = read_trials(study.folder, study.numbers)
    best = best_trial(trials)
    ended = {"complete": f"{trial.score:.1%}", "pruned": f"pruned at {trial.score:.1%}", "failed": f"failed: {trial.reason}"}
    left = (study.tuning.trials - len(trials)) * sum(one.seconds for one in trials) / len(trials)
    about = f"; about {left / 60:.0f} min left" if left >= 90 else f"; about {left:.0f} s left" if left else ""
    return (
        f"trial {trial.number} of {study.tuning.trials}: {ended[trial.state]} (best {best.score:.1%}, trial {best.number}), "
        f"{said(trial.values)}{about}"
    )
