"""Checks of several jobs with their data, before the first one runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException

from dmlbench.config.compose import Composed, resolve
from dmlbench.config.jobs import Job
from dmlbench.config.schema import Dataset
from dmlbench.data.split import Split
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.runs.plan_checks import check_plan
from dmlbench.runs.prepare import load_split, prepare
from dmlbench.runs.studies import requested_study


def check_with_data(jobs: Sequence[Job]) -> None:
    """Refuse a command if one of its jobs does not fit its data. Writes nothing except what reading a data set caches.

    Args:
        jobs: Jobs. Those that differ only in the seed are checked once.

    Raises:
        UserError: A value does not fit the data, or is refused by its constructor. The sentence begins with the job's name.
    """
    splits, checked = _Splits(), set()
    for job in jobs:
        key = tuple(one for one in job.composed.overrides if not one.startswith("seed="))
        if key in checked:
            continue
        checked.add(key)
        try:
            _check_with_data(job.composed, splits)
        except (UserError, OmegaConfBaseException) as error:
            raise UserError(f"{job.name}: {str(error).splitlines()[0]}") from error
        except Exception:  # the job itself reports a crash, with its traceback, and the others run
            continue


class _Splits:
    """Reads each data set once, for the jobs of one command."""

    def __init__(self) -> None:
        self._known: dict[str, Split] = {}

    def __call__(self, dataset: Dataset, data_dir: Path, training_only: bool = False) -> Split:
        key = repr((dataset, data_dir, training_only))
        if key not in self._known:
            self._known[key] = load_split(dataset, data_dir, training_only)
        return self._known[key]


def _check_with_data(composed: Composed, splits: _Splits) -> None:
    settings = resolve(composed)
    if study := requested_study(composed, settings, splits):
        check_plan(study.plan, study.split)
    if not settings.tuning.only:
        plan, split = prepare(composed, load=splits)
        if not (plan.folder / run_files.ROW).exists():
            check_plan(plan, split)
