"""`dmlbench train`: train and evaluate one run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser
from dmlbench.cli.overrides import (
    OVERRIDES_HELP,
    add_override_options,
    check_jobs,
    compose_jobs,
    prepare_composing,
    print_configurations,
)
from dmlbench.cli.progress import exit_status, outcome_printer, printer_without_repeats
from dmlbench.cli.several_processes import agreed, facts_of_jobs

if TYPE_CHECKING:
    from dmlbench.config.jobs import JobList

EXAMPLES = """\
train loss=softtriple dataset=cub
train loss=triplet loss.make.margin=0.1 protocol.epochs=20 seed=1
train loss=mine --config-dir my_conf        # your own my_conf/loss/mine.yaml
train -m loss=triplet,arcface seed=0,1      # several runs, one after the other
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "train",
        "[KEY=VALUE ...] [options]",
        "Train and evaluate one run, and write its result row.\n\n"
        "A finished run is skipped. An interrupted run continues from its last checkpoint.",
        EXAMPLES,
        OVERRIDES_HELP,
    )
    add_override_options(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Run every job of the overrides, waiting for runs that another process is executing."""
    jobs = agreed(lambda: _checked_jobs(arguments), lambda found: facts_of_jobs([found]))
    if arguments.cfg:
        print_configurations([jobs])
        return 0
    from dmlbench.runs.launcher import run_jobs

    on_end = outcome_printer(len(jobs.jobs))
    return exit_status(run_jobs(jobs, wait=True, report=printer_without_repeats(), on_end=on_end))


def _checked_jobs(arguments: argparse.Namespace) -> JobList:
    prepare_composing(arguments)
    jobs = compose_jobs(arguments.overrides, arguments.config_dir, arguments.multirun)
    if not arguments.cfg:
        check_jobs([jobs])
    return jobs
