"""Execution of one job: make the plan, lock the run directory, skip a finished run, write the row."""

from __future__ import annotations

import errno
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from omegaconf.errors import OmegaConfBaseException

from dmlbench.config.compose import Composed, resolve
from dmlbench.config.jobs import Job
from dmlbench.config.plan import Plan
from dmlbench.config.presets import NONE as NO_PRESET
from dmlbench.config.schema import Protocol, Scalar, Tuning
from dmlbench.data.folds import training_splits
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_row, write_row
from dmlbench.runs import experiment
from dmlbench.runs.prepare import plan_for, prepare
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.locks import locked
from dmlbench.system.seeding import derive_seed
from dmlbench.tuning.space import overrides as overrides_of
from dmlbench.tuning.study import Study, search, tuning_columns
from dmlbench.tuning.trials import best_trial

Status = Literal["done", "skipped", "tuned", "locked", "user_error", "crash"]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Args:
        status: `done` (the run has ended), `skipped` (its row existed), `tuned` (its trials have ended, and no run was
            requested), `locked` (another process is executing it), `user_error` (the user has to change something), or
            `crash` (the same command retries).
        job: Name of the job.
        folder: Directory of the run, or of the tuning study, if the plan could be made.
        row: Row, if there is one.
        error: One sentence, for `user_error` and `crash`.
        tuned: Columns that describe the hyper-parameter search, if one was requested.
    """

    status: Status
    job: str
    folder: Path | None = None
    row: Row | None = None
    error: str | None = None
    tuned: Mapping[str, Scalar] | None = None


def run_job(job: Job, wait: bool, report: Report, on_start: Callable[[Path], None] = lambda folder: None) -> Outcome:
    """Run one job. Raises nothing except on interrupts, so that a failing job does not stop the others.

    Args:
        job: Composed configuration and name.
        wait: Wait for a run that another process is executing.
        report: Prints a line.
        on_start: Called with the run directory before the run.

    Returns:
        How the job ended.
    """
    folder = None
    try:
        settings = resolve(job.composed)
        composed, tuned = job.composed, None
        overrides = list(composed.overrides)
        if settings.tuning.trials and not settings.method.search:
            _refuse_untuned(settings.method.name, settings.method.make is not None, settings.tuning.trials)
            report(f"tuning    loss/{settings.method.name} has no search space; its hyper-parameters are kept")
        elif settings.tuning.trials:
            study = make_study(composed, settings.tuning)
            folder = study.folder
            trials = search(study, wait, report)
            if trials is None:
                return Outcome("locked", job.name, folder)
            (folder / run_files.ERROR).unlink(missing_ok=True)
            tuned = tuning_columns(study, trials)
            values = best_trial(trials).values
            composed = composed.with_values({f"loss.{key}": value for key, value in values.items()})
            overrides += overrides_of(values)
        if settings.tuning.only:
            return Outcome("tuned", job.name, folder, tuned=tuned)
        plan, split = prepare(composed)
        plan = replace(plan, tuned=tuned or {})
        folder = plan.folder
        on_start(folder)
        return _run_locked(job.name, plan, split, wait, report, overrides, settings.retry_failed)
    except UserError as error:
        return Outcome("user_error", job.name, folder, error=str(error))
    except OmegaConfBaseException as error:  # an interpolation of an unknown key, which is found when it is resolved
        key = f"{error.full_key}: " if error.full_key else ""
        return Outcome("user_error", job.name, folder, error=key + str(error).splitlines()[0])
    except Exception as error:
        return _crashed(job.name, folder, error)


def _crashed(name: str, folder: Path | None, error: Exception) -> Outcome:
    started = folder is not None and folder.is_dir()
    if not started and isinstance(error, OSError) and error.filename and error.errno != errno.ENOSPC:
        # Nothing has run: for example, `paths.runs` is a file, or an image is a dangling link.
        return Outcome("user_error", name, error=f"{error.filename} cannot be used: {error.strerror}")
    hint = ""
    if folder is not None and started:
        with suppress(OSError):  # the disk may be full
            atomic_write(folder / run_files.ERROR, traceback.format_exc())
            hint = f" (see {folder / run_files.ERROR})"
    sentence = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{hint}"
    return Outcome("crash", name, folder, error=sentence)


def _refuse_untuned(loss: str, trains: bool, trials: int) -> None:
    """Refuse a trained method without search space, because a table would show it as tuned like the others."""
    if trains:
        raise UserError(
            f"loss/{loss} has no search space, so it cannot be given {trials} trial{'s' * (trials > 1)}; add `search:` to its "
            "file, or leave out tuning.trials"
        )


def make_study(composed: Composed, tuning: Tuning) -> Study:
    """Make the hyper-parameter search of a configuration. Test images are not read.

    Args:
        composed: Composed configuration.
        tuning: Its budget.

    Raises:
        UserError: A value is wrong, or the files of the data set contradict the declared facts.
    """
    base: dict[str, object] = {
        "seed": derive_seed(tuning.seed, "tuning"),
        "oracle": False,
        "protocol.fold": tuning.fold,
        "protocol.folds": tuning.folds,
    }
    if tuning.epochs is not None:
        base["protocol.epochs"] = tuning.epochs
    of_trials = composed.with_values(base)
    try:
        plan, split = prepare(of_trials, training_only=True)
    except UserError as error:  # the folds of the protocol are those of `tuning`
        raise UserError(str(error).replace("protocol.fold", "tuning.fold")) from None

    def plan_with(values: Mapping[str, Scalar]) -> Plan:
        return plan_for(of_trials.with_values({f"loss.{key}": value for key, value in values.items()}), split)

    return Study(tuning, plan, plan_with, split)


def _run_locked(
    name: str, plan: Plan, split: Split, wait: bool, report: Report, overrides: list[str], retry_failed: bool
) -> Outcome:
    folder = plan.folder

    def waiting() -> None:
        report(f"{folder.name} is being executed by another process; waiting for it")

    with locked(folder / run_files.LOCK, waiting if wait else None) as acquired:
        if not acquired:
            return Outcome("locked", name, folder)
        row = read_row(folder / run_files.ROW) if (folder / run_files.ROW).is_file() else None
        done = row is not None and _is_done(row, plan, retry_failed)
        if row is None or not done:
            for line in announcement(plan, split):
                report(line)
            (folder / run_files.ERROR).unlink(missing_ok=True)  # of a previous attempt
            atomic_write(folder / run_files.OVERRIDES, json.dumps(overrides, indent=1) + "\n")
            write_row(folder, experiment.pending_row(plan), run_files.PENDING_ROW)
            row = experiment.run(plan, split)
            write_row(folder, row)
        for temporary in (run_files.CHECKPOINT, run_files.BEST, run_files.ERROR, run_files.PENDING_ROW):
            for leftover in (folder / temporary, *folder.glob(f"fold*/{temporary}")):
                leftover.unlink(missing_ok=True)
        return Outcome("skipped" if done else "done", name, folder, row)


def _is_done(row: Row, plan: Plan, retry_failed: bool) -> bool:
    """Whether a row has everything that was requested."""
    lacks_oracle = plan.oracle and row.get("oracle_map_at_r") is None and row["selected_on"] != "none"
    return (row.ok or not retry_failed) and not lacks_oracle


def announcement(plan: Plan, split: Split) -> list[str]:
    """Return a few lines that describe a run before it starts.

    Args:
        plan: The plan of the run.
        split: Its data set, before any fold is held out.
    """
    protocol, method = plan.protocol, plan.method
    facts = training_splits(split, protocol)[0].facts
    batch = f", {method.samples_per_class} images per class" if "m_per_class" in plan.sampler["_target_"] else ""
    lr = f", loss learning rate {method.lr_scale * protocol.lr:g}" if method.kind == "classification" else ""
    preset = "" if plan.shared["preset"] == NO_PRESET else f", preset {plan.shared['preset']}"
    weights = "from scratch" if plan.trunk.weights == "none" else f"with {Path(plan.trunk.weights).name}"
    return [
        f"dataset   {plan.dataset.label}: train {facts['train_images']:,} images of {facts['train_classes']:,} classes; test "
        f"{facts['query_images']:,} query and {facts['gallery_images']:,} gallery images of {facts['test_classes']:,} classes",
        f"trunk     {plan.trunk.label} {weights}",
        f"protocol  {protocol.name} v{protocol.version}{preset}: {_count(protocol.epochs, 'epoch')}, batch "
        f"{protocol.batch_size}, {protocol.embedding_dim}-d, crop {protocol.image_px} of {protocol.resized_px} px, "
        f"{plan.shared['optimizer']} with learning rate {protocol.lr:g}, on {plan.device} in {plan.precision}",
        *(["features  frozen trunk: computed once, from centre crops without flips"] if protocol.trunk_frozen else []),
        *_selection(protocol),
        *(f"note      {note}" for note in (*split.notes, *_few_images(plan, split))),
        f"method    {method.label} ({method.kind}{batch}{lr})" if method.make else f"method    {method.label}: no training",
        f"run       {plan.run_id}, seed {plan.seed}, in {plan.folder}",
    ]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _selection(protocol: Protocol) -> Iterator[str]:
    """How the reported model is selected, unless it is the last epoch of one training on all training classes."""
    epoch = "best epoch on held-out training classes" if protocol.selection == "validation" else "last epoch"
    if protocol.fold == "all":
        yield f"selection {epoch}; {protocol.folds} models, one per fold of held-out training classes"
    elif protocol.fold != "none":
        yield f"selection {epoch}; fold {protocol.fold} of {protocol.folds} of the training classes is held out"
    elif protocol.selection == "validation":
        yield f"selection {epoch}, as given by the data set"


def _few_images(plan: Plan, split: Split) -> Iterator[str]:
    counts = split.frame.loc[split.frame["train"], "label"].value_counts()
    few = int((counts < plan.method.samples_per_class).sum())
    if few and "samples_per_class" in plan.sampler:
        crops = "" if plan.protocol.trunk_frozen else ", each with its own crop"
        yield (
            f"{few} training class{'es have' if few > 1 else ' has'} fewer than {plan.method.samples_per_class} images, "
            f"which repeat within a batch{crops}"
        )
