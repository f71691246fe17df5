"""Execution of one job: make the plan, lock the run directory, skip a finished run, write the row."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from omegaconf.errors import OmegaConfBaseException

from dmlbench.config.compose import Composed, Settings, resolve
from dmlbench.config.jobs import Job
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Scalar
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_row, write_row
from dmlbench.runs import experiment
from dmlbench.runs.announcement import announcement
from dmlbench.runs.class_files import add_groups
from dmlbench.runs.plan_checks import check_plan
from dmlbench.runs.prepare import prepare
from dmlbench.runs.studies import requested_study
from dmlbench.system.atomic_write import DISK_FULL, DiskFullError, atomic_write, remove_stale_temporaries
from dmlbench.system.locks import locked
from dmlbench.system.own_directory import refuse_links
from dmlbench.system.regular_files import NotARegularFileError
from dmlbench.training import processes
from dmlbench.training.environment import source_digest, versions
from dmlbench.tuning.space import overrides as overrides_of
from dmlbench.tuning.study import FILES as STUDY_FILES
from dmlbench.tuning.study import search, tuning_columns
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
        settings = processes.agreed(lambda: resolve(job.composed), _facts_of_settings)
        composed, tuned = job.composed, None
        overrides = list(composed.overrides)
        if settings.tuning.trials and processes.count() > 1:
            raise processes.AgreedError(
                f"tuning.trials is {settings.tuning.trials}, but trials run in one process; tune without torchrun, then train"
            )
        study = requested_study(composed, settings)
        if study is None and settings.tuning.trials:
            report(f"tuning    loss/{settings.method.name} trains nothing, so there is nothing to tune")
        elif study is not None:
            folder = study.folder
            refuse_links(folder, run_files.NAMES | STUDY_FILES)
            check_plan(study.plan, study.split)
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
        plan, split = processes.agreed(lambda: _prepared(composed), lambda found: _facts_of_process(*found))
        plan = replace(plan, tuned=tuned or {})
        folder = plan.folder
        on_start(folder)
        if not processes.is_first():
            return _follow(job.name, plan, split)
        return _run_locked(job.name, plan, split, wait, report, overrides, settings.retry_failed)
    except Exception as error:
        outcome = _outcome_of(error, job.name, folder)
        if processes.count() > 1 and not isinstance(error, processes.AgreedError):  # the others still execute the job
            raise processes.EndedProcess(str(outcome.error), 1 if outcome.status == "crash" else 2) from error
        return outcome


def _prepared(composed: Composed) -> tuple[Plan, Split]:
    """The plan and the data set of a job, which can be run, or whose row exists."""
    plan, split = prepare(composed)
    processes.refuse_shared_device(plan.device)
    refuse_links(plan.folder, run_files.NAMES)
    if not (plan.folder / run_files.ROW).exists():
        check_plan(plan, split)
    return plan, split


def _facts_of_settings(settings: Settings) -> dict[str, Scalar]:
    """What must be equal in all processes of a run and is not part of its plan."""
    return {
        "oracle": settings.oracle,
        "compile": settings.compile,
        "retry": settings.retry_failed,
        "tuning": str(settings.tuning),
    }


def _facts_of_process(plan: Plan, split: Split) -> dict[str, Scalar]:
    """What must be equal in all processes of a run: its identity, configuration, data and code."""
    identity = {"run id": plan.run_id, "run directory": str(plan.folder), "device": plan.device, "code": source_digest()}
    facts = {**identity, **plan.provenance, **split.columns, **versions()}
    del facts["dataset_source"]  # it names the directory of the data, which may differ between machines
    return facts


def _outcome_of(error: Exception, name: str, folder: Path | None) -> Outcome:
    if isinstance(error, UserError):
        return Outcome("user_error", name, folder, error=str(error))
    if isinstance(error, OmegaConfBaseException):  # an interpolation of an unknown key, which is found when it is resolved
        key = f"{error.full_key}: " if error.full_key else ""
        return Outcome("user_error", name, folder, error=key + str(error).splitlines()[0])
    return _crashed(name, folder, error)


def _crashed(name: str, folder: Path | None, error: Exception) -> Outcome:
    started = folder is not None and folder.is_dir()
    is_full = isinstance(error, OSError) and error.errno in DISK_FULL
    unusable = isinstance(error, NotARegularFileError) or (isinstance(error, OSError) and error.filename and not started)
    if isinstance(error, OSError) and unusable and not is_full:
        # Nothing has run: for example, `paths.runs` is a file, an image is a dangling link, or the lock is a FIFO.
        return Outcome("user_error", name, folder, error=f"{error.filename} cannot be used: {error.strerror}")
    hint = ""
    if folder is not None and started:
        with suppress(OSError):  # the disk may be full
            atomic_write(folder / run_files.ERROR, traceback.format_exc())
            hint = f" (see {folder / run_files.ERROR})"
    if is_full:
        sentence = f"{error if isinstance(error, DiskFullError) else f'{folder}: {error}'}; free some space, then run the same "
        return Outcome("crash", name, folder, error=f"{sentence}command again")
    sentence = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{hint}"
    return Outcome("crash", name, folder, error=sentence)


def _run_locked(
    name: str, plan: Plan, split: Split, wait: bool, report: Report, overrides: list[str], retry_failed: bool
) -> Outcome:
    folder = plan.folder

    def waiting() -> None:
        report(f"{folder.name} is being executed by another process; waiting for it")

    with locked(folder / run_files.LOCK, waiting if wait else None) as acquired:
        row = read_row(folder / run_files.ROW) if acquired and (folder / run_files.ROW).is_file() else None
        status = processes.on_first(lambda: _status(row, plan, acquired, retry_failed))
        if status == "locked":
            return Outcome(status, name, folder)
        if status == "done":
            for line in announcement(plan, split):
                report(line)
            remove_stale_temporaries(folder)
            with _nothing_left_if_refused(plan):
                (folder / run_files.ERROR).unlink(missing_ok=True)  # of a previous attempt
                atomic_write(folder / run_files.OVERRIDES, json.dumps(overrides, indent=1) + "\n")
                write_row(folder, experiment.pending_row(plan), run_files.PENDING_ROW)
                row = experiment.run(plan, split)
            assert row is not None  # this is the first process
            write_row(folder, row)
        elif row is not None and row.ok:
            for line in add_groups(folder, split):
                report(line)
        for temporary in (run_files.CHECKPOINT, run_files.BEST, run_files.ERROR, run_files.PENDING_ROW):
            for leftover in (folder / temporary, *folder.glob(f"fold*/{temporary}")):
                leftover.unlink(missing_ok=True)
        return Outcome(status, name, folder, row)


def _status(row: Row | None, plan: Plan, acquired: bool, retry_failed: bool) -> Status:
    """How a run will end, from its row and whether its lock was acquired; `done` if it has to be executed."""
    if not acquired:
        return "locked"
    if row is None:
        return "done"
    _refuse_other_run(row, plan)
    return "skipped" if _is_done(row, plan, retry_failed) else "done"


def _follow(name: str, plan: Plan, split: Split) -> Outcome:
    """Execute a run together with the first process, if that one executes it."""
    status: Status = processes.on_first(lambda: "locked")
    if status == "done":
        experiment.run(plan, split)
    return Outcome(status, name)  # without a directory, of which the first process prints the row


@contextmanager
def _nothing_left_if_refused(plan: Plan) -> Iterator[None]:
    """Remove what a run wrote if it is refused after its start, unless there is a checkpoint from which it can resume."""
    folder = plan.folder
    is_new = {file.name for file in folder.iterdir()} <= {run_files.LOCK}
    was_pending = (folder / run_files.PENDING_ROW).exists()
    try:
        yield
    except UserError:
        if any(folder.rglob(run_files.CHECKPOINT)):
            raise
        if not was_pending:
            (folder / run_files.PENDING_ROW).unlink(missing_ok=True)
        if is_new:
            shutil.rmtree(folder)
            for parent in (folder.parent, folder.parent.parent):
                with suppress(OSError):  # it contains other runs
                    parent.rmdir()
        raise


def _refuse_other_run(row: Row, plan: Plan) -> None:
    """Refuse the row of another run, such as one in a directory that was copied to the wrong name."""
    expected: dict[str, Scalar] = {
        "run_id": plan.run_id,
        "fingerprint": plan.fingerprint,
        "method_digest": plan.method_digest,
        "seed": plan.seed,
        "loss": plan.method.name,
        "dataset": plan.dataset.name,
    }
    for name, value in expected.items():
        if row[name] != value:
            raise UserError(
                f"{plan.folder / run_files.ROW} is the row of another run: {name} is {row[name]!r}, not {value!r}; delete it "
                "to run this one, or give its directory back its own name"
            )


def _is_done(row: Row, plan: Plan, retry_failed: bool) -> bool:
    """Whether a row has everything that was requested."""
    lacks_oracle = plan.oracle and row.get("oracle_map_at_r") is None and row["selected_on"] != "none"
    return (row.ok or not retry_failed) and not lacks_oracle
