"""`dmlbench sweep`: run every combination of values, then print their table."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, print_error
from dmlbench.cli.overrides import (
    OVERRIDES_HELP,
    add_override_options,
    check_jobs,
    compose_jobs,
    prepare_composing,
    print_configurations,
)
from dmlbench.cli.progress import exit_status, outcome_printer, print_outcome, printer_without_repeats
from dmlbench.cli.several_processes import agreed, facts_of_jobs
from dmlbench.cli.table import print_skipped
from dmlbench.errors import UserError

if TYPE_CHECKING:
    from dmlbench.config.jobs import JobList

EXAMPLES = """\
sweep                                     # seven losses on the embedded data set, Omniglot
sweep dataset=cub seed=0,1,2              # three seeds of each loss
sweep loss=triplet loss.make.margin=0.1,0.2
sweep loss=mine,arcface --config-dir my_conf
sweep hydra/launcher=joblib hydra.launcher.n_jobs=4     # four jobs at a time
"""
DETAILS = f"""\
Without loss= the sweep runs conf/sweep/seven.yaml; sweep=NAME chooses another file of conf/sweep/.
The baselines (raw pixels, untrained trunk) are added, except to a sweep with preset=. All values are
checked before the first run starts.

Run the same command again to resume: finished runs are skipped, interrupted runs continue from their
last checkpoint, and crashed runs are retried; methods that failed are retried with retry=failed only.
Processes that run the same command share the jobs. Launchers are joblib, submitit_slurm,
submitit_local and ray. One line is printed when a job ends, with the number of ended jobs and the
estimated time left. The table is printed, and written in every format to RUNS/tables/. See
docs/sweeps.md.

{OVERRIDES_HELP}"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "sweep",
        "[KEY=VALUE,VALUE ...] [options]",
        "Run every combination of comma-separated values, then print their table.\n\n"
        "Accepts all overrides of `dmlbench train`.",
        EXAMPLES,
        DETAILS,
    )
    add_override_options(parser, multirun=False)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Run every job, then print the table of their rows."""
    lists = agreed(lambda: _checked_jobs(arguments), facts_of_jobs)
    if arguments.cfg:
        print_configurations(lists)
        return 0
    from dmlbench.runs.launcher import run_jobs

    report, on_end = printer_without_repeats(), outcome_printer(sum(len(one.jobs) for one in lists))
    outcomes = [outcome for one in lists for outcome in run_jobs(one, wait=False, report=report, on_end=on_end)]
    if locked := {outcome.job for outcome in outcomes if outcome.status == "locked"}:
        print("waiting for runs that another process is executing", flush=True)
        outcomes = [outcome for outcome in outcomes if outcome.job not in locked]
        for part in lists:
            outcomes += run_jobs(_without_retry(part), wait=True, report=report, on_end=print_outcome, only=locked)
    folders = [outcome.folder for outcome in outcomes if outcome.folder is not None and outcome.status != "user_error"]
    if folders:
        print_tables(folders, arguments.config_dir)
    return exit_status(outcomes)


def _checked_jobs(arguments: argparse.Namespace) -> list[JobList]:
    prepare_composing(arguments)
    config_dir = arguments.config_dir
    lists = [compose_jobs(part, config_dir, several=True) for part in parts(arguments.overrides, config_dir)]
    lists = [*_baselines_for_sweep_file(lists, config_dir), *lists]
    if not arguments.cfg:
        check_jobs(lists)
    return lists


def parts(overrides: Sequence[str], config_dir: Path | None) -> list[list[str]]:
    """Split the overrides of a sweep into lists that are composed on their own, and add the baselines.

    The baselines are a list of their own, because they have none of the hyper-parameters that are swept over. Each loss of a
    preset is one too, because a preset is one file per loss; each may have its own trunk and protocol, so no baseline is added.

    Args:
        overrides: As typed.
        config_dir: Directory of the user's own configuration files.

    Returns:
        Lists of overrides, each for `compose_jobs`.
    """
    overrides = [re.sub(r"^\+sweep=", "sweep=", one) for one in overrides]  # a second value with + would be refused
    losses = [one.removeprefix("loss=").split(",") for one in overrides if one.startswith("loss=")]
    if any(one.startswith("preset=") and one != "preset=none" for one in overrides):
        return _one_per_loss(overrides, losses[-1] if losses else [], config_dir)
    if losses:
        return [*_baselines(overrides, losses[-1]), overrides]
    if any(one.startswith("sweep=") for one in overrides):
        return [overrides]
    return [["sweep=seven", *overrides]]


def _baselines(overrides: Sequence[str], losses: Collection[str]) -> list[list[str]]:
    """The overrides of the baselines that a sweep does not name.

    Those of the loss are left out, except for the search of the rates of trunk and head: rows are compared only if it is equal.
    """
    from dmlbench.results.row import BASELINES

    missing = [name for name in BASELINES if name not in losses]
    of_loss = re.compile(r"\+{0,2}~?loss(=|\.(?!search\.(lr|head_lr_scale)\b))")
    return [[*(one for one in overrides if not of_loss.match(one)), f"loss={','.join(missing)}"]] if missing else []


def _one_per_loss(overrides: Sequence[str], losses: Sequence[str], config_dir: Path | None) -> list[list[str]]:
    from dmlbench.config.presets import available, chosen

    if not losses:
        name, dataset = (chosen(overrides, group) for group in ("preset", "dataset"))
        files = available(None if config_dir is None else str(config_dir)).get(name, [])
        losses = [file.removesuffix(f"_{dataset}") for file in files if file.endswith(f"_{dataset}")]
        if files and not losses:
            datasets = ", ".join(sorted({file.rpartition("_")[2] for file in files}))
            raise UserError(f"preset={name} has no file for dataset={dataset}; it is for dataset={datasets}")
        losses = losses or [chosen(overrides, "loss")]  # an unknown preset, which is refused when it is expanded
    rest = [one for one in overrides if not one.startswith("loss=")]
    return [[*rest, f"loss={loss}"] for loss in losses]


def _baselines_for_sweep_file(lists: Sequence[JobList], config_dir: Path | None) -> list[JobList]:
    """The jobs of the baselines, for a file of `conf/sweep/` that does not name them; with all its other values."""
    [first, *more] = lists
    names_loss = more or any(one.startswith("loss=") for one in first.overrides)
    missing = [] if names_loss else _baselines(first.overrides, [job.composed.choices["loss"] for job in first.jobs])
    others = [f"{key}={value}" for key, value in first.sweep_params.items() if not re.match(r"loss(\.|$)", key)]
    return [compose_jobs([*one, *others, "hydra.sweeper.params=null"], config_dir, several=True) for one in missing]


def _without_retry(jobs: JobList) -> JobList:
    """The same jobs without retry=failed, so that a method that failed in the other process is not run again."""
    from dataclasses import replace

    return replace(
        jobs,
        overrides=tuple(one for one in jobs.overrides if not one.startswith("retry=")),
        jobs=tuple(replace(job, composed=job.composed.with_values({"retry": "none"})) for job in jobs.jobs),
    )


def print_tables(folders: Sequence[Path], config_dir: Path | None = None) -> None:
    """Print the table of some runs, and write it in every format to the directory `tables` beside those of the data sets.

    Args:
        folders: Run directories. Rows of `dmlbench evaluate` below them are left out.
        config_dir: Directory of the user's own configuration files.
    """
    from dmlbench.results.row import MISSING
    from dmlbench.results.row_files import read_rows
    from dmlbench.system.atomic_write import atomic_write
    from dmlbench.tables.formats import FORMATS, render
    from dmlbench.tables.table import compare

    rows, skipped = read_rows(*folders)
    print_skipped(skipped)
    rows = [row for row in rows if row.get("parent") is None]  # a re-evaluated run is not part of the sweep
    finished = [row for row in rows if row["status"] != MISSING]
    if not finished:
        return
    tables = compare(rows, config_dir=config_dir)
    print()
    print(render(tables, "markdown"))
    print(f"rows      {len(finished)}, each a row.json below {folders[0].parents[1]}", flush=True)
    stem = folders[0].parents[2] / "tables" / f"{finished[0]['dataset']}-{finished[0]['fingerprint']}"
    for name, suffix in FORMATS.items():
        file = Path(f"{stem}{suffix}")
        try:
            atomic_write(file, render(tables, name))
        except OSError as error:
            print_error(f"the table cannot be written to {file}: {error.strerror or error}; `dmlbench table` prints it again")
            break
        print(f"{name:9} {file}")
