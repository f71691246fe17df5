"""`dmlbench tune`: tune the hyper-parameters of a loss."""

from __future__ import annotations

import argparse
import re

from dmlbench.cli.arguments import Parser
from dmlbench.cli.overrides import (
    add_override_options,
    check_jobs,
    compose_jobs,
    prepare_composing,
    print_configurations,
)
from dmlbench.cli.progress import exit_status, outcome_printer, printer_without_repeats

TRIALS = 20  # as in conf/sweep/tuned.yaml

EXAMPLES = """\
tune loss=arcface dataset=cub trials=50
tune loss=arcface,triplet trials=20                # one after the other
train loss=arcface dataset=cub tuning.trials=50    # tune, then run with the best values
sweep sweep=tuned dataset=cub seed=0,1,2           # tune seven losses, then run each
"""
DETAILS = f"""\
tuning:
  trials={TRIALS}            trials per loss, short for tuning.trials; the first one uses the values of
                       the loss's file and the rates of the protocol
  tuning.fold=0        fold of the training classes used for validation, of tuning.folds=4; `all` uses
                       each in turn and averages the scores, at four times the cost
  tuning.epochs=null   epochs per trial; null uses the protocol's
  tuning.prune=true    stop trials early that fall behind the median of the others
  tuning.seed=0        seed of proposals and training

The search space of every loss contains the learning rates of trunk (lr), head (head_lr_scale) and
loss (lr_scale), in the same ranges around the protocol's, and `search` in the loss's file.
'loss.search.make.margin={{low: 0, high: 1}}' changes a range, and loss.search.lr=null takes a rate out.
Test images are not loaded. Run the same command again to resume: finished trials are kept. With a
larger number of trials, the search continues from the existing ones; processes that run the same
command share the trials. The history and the best values are written to RUNS/<dataset>/<loss>/tune-*/
(history.csv, history.svg, best.json). Requires `pip install 'dmlbench[tune]'`.
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "tune",
        "[KEY=VALUE ...] [options]",
        "Tune the hyper-parameters of a loss, with the same budget for every loss, on training classes only.\n\n"
        "Accepts all overrides of `dmlbench train`.",
        EXAMPLES,
        DETAILS,
    )
    add_override_options(parser, multirun=False)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Run the trials of each loss, but no run with the best values."""
    prepare_composing(arguments)
    overrides = [re.sub(r"^trials=", "tuning.trials=", re.sub(r"^\+sweep=", "sweep=", one)) for one in arguments.overrides]
    if not any(one.startswith(("tuning.trials=", "sweep=")) for one in overrides):
        overrides.append(f"tuning.trials={TRIALS}")
    jobs = compose_jobs([*overrides, "tuning.only=true"], arguments.config_dir, several=True)
    if arguments.cfg:
        print_configurations([jobs])
        return 0
    check_jobs([jobs])
    from dmlbench.runs.launcher import run_jobs

    on_end = outcome_printer(len(jobs.jobs))
    return exit_status(run_jobs(jobs, wait=True, report=printer_without_repeats(), on_end=on_end))
