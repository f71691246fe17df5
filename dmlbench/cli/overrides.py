"""What the commands that compose configurations share: overrides, and their errors as one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, add_config_dir, allow_own_code, check_config_dir

if TYPE_CHECKING:
    from dmlbench.config.jobs import JobList

OVERRIDES_HELP = """\
overrides:
  dataset= trunk= loss= protocol= sampler= optimizer=   choose a file (`dmlbench list` prints them)
  dataset.KEY= trunk.KEY= loss.KEY= protocol.KEY=       change a value in it; unknown keys are refused
  preset=paper|reality_check   hyper-parameters that the authors of a loss, or the reality-check
                               protocol (Musgrave et al., 2020), publish for the data set
  seed=0  device=auto|cpu|cuda  workers=auto|N  paths.data=data  paths.runs=runs
  oracle=true                  also record what choosing the epoch on the test set would have claimed
  retry=failed                 run methods again whose row says that they failed
"""


def add_override_options(parser: Parser) -> None:
    """Add overrides and the options that go with them."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="values of the configuration")
    add_config_dir(parser)
    parser.add_argument("--cfg", metavar="job", choices=["job"], help="print the composed configuration and exit: --cfg job")
    parser.add_argument("-m", "--multirun", action="store_true", help="run every combination of comma-separated values")


def compose_jobs(overrides: Sequence[str], config_dir: Path | None, several: bool) -> JobList:
    """Compose the jobs of some overrides and check all their values, before torch is imported.

    Args:
        overrides: As typed; presets are expanded.
        config_dir: Directory of the user's own configuration files.
        several: Whether comma-separated values stand for several jobs.

    Raises:
        UserError: The overrides do not compose, or a value is wrong.
    """
    from dmlbench.cli.errors import COMPOSE_ERRORS, translate_error
    from dmlbench.config.jobs import all_jobs, one_job
    from dmlbench.config.presets import expand_preset
    from dmlbench.errors import UserError

    folder = None if config_dir is None else str(config_dir)
    expanded = expand_preset(overrides, folder)
    try:
        jobs = (all_jobs if several else one_job)(expanded, folder)
        jobs.check()
    except UserError:
        raise
    except COMPOSE_ERRORS as error:
        raise translate_error(error, expanded, config_dir) from error
    return jobs


def prepare_composing(arguments: argparse.Namespace) -> None:
    """Check `--config-dir`, and let configurations name the user's own code."""
    allow_own_code(check_config_dir(arguments.config_dir))


def print_configurations(job_lists: Sequence[JobList]) -> None:
    """Print the composed configuration of every job as YAML."""
    from omegaconf import OmegaConf

    jobs = [job for one in job_lists for job in one.jobs]
    for job in jobs:
        if len(jobs) > 1:
            print(f"# {job.name}")
        print(OmegaConf.to_yaml(job.composed.cfg), end="")
