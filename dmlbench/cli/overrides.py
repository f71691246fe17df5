"""What the commands that compose configurations share: overrides, their checks, and the composed jobs."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, add_config_dir, allow_own_code, check_config_dir
from dmlbench.errors import UserError, suggest

if TYPE_CHECKING:
    from dmlbench.config.jobs import JobList

OVERRIDES_HELP = """\
overrides:
  dataset= trunk= loss= protocol= sampler= optimizer=   choose a file (`dmlbench list` prints them)
  dataset.KEY= trunk.KEY= loss.KEY= protocol.KEY=       change a value in it; unknown keys are refused
  +loss.make.KEY=              add an argument of a constructor that its file leaves out
  preset=paper|reality_check   hyper-parameters that the authors of a loss, or the reality-check
                               protocol (Musgrave et al., 2020), publish for the data set
  tuning.trials=N              tune the loss first, on training classes (see `dmlbench tune --help`)
  seed=0  device=auto|cpu|cuda  workers=auto|N  paths.data=data  paths.runs=runs
  oracle=true                  also record what choosing the epoch on the test set would have claimed
  retry=failed                 run methods again whose row says that they failed
"""
_PATHS = ("paths.data", "paths.runs")


def add_override_options(parser: Parser, multirun: bool = True) -> None:
    """Add overrides and the options that go with them.

    Args:
        parser: Parser of a command.
        multirun: List `-m` in the help. Commands that always run several jobs accept it without effect.
    """
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="values of the configuration, listed below")
    add_config_dir(parser)
    parser.add_argument("--cfg", metavar="job", choices=["job"], help="print the composed configuration as YAML and exit")
    text = "run every combination of comma-separated values" if multirun else argparse.SUPPRESS
    parser.add_argument("-m", "--multirun", action="store_true", help=text)


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

    folder = None if config_dir is None else str(config_dir)
    checked = check_overrides(overrides, config_dir, several)
    expanded = expand_preset(checked, folder)
    try:
        return (all_jobs if several else one_job)(expanded, folder)
    except UserError as error:
        raise _with_full_key(error, expanded, config_dir) from error
    except COMPOSE_ERRORS as error:
        raise translate_error(error, expanded, config_dir) from error


def check_overrides(overrides: Sequence[str], config_dir: Path | None, several: bool = True) -> list[str]:
    """Refuse overrides that Hydra would ignore or reject with an unclear message, and expand `~` in paths.

    Args:
        overrides: As typed.
        config_dir: Directory of the user's own configuration files.
        several: Whether they may stand for several jobs.

    Returns:
        The overrides, for Hydra.

    Raises:
        UserError: An override removes a key that every run needs, or chooses an unknown file of `conf/sweep/`.
    """
    from dmlbench.config.compose import TOP_KEYS
    from dmlbench.config.files import entries

    for one in overrides:
        key, _, value = one.lstrip("+").partition("=")
        if not key:
            raise UserError(f"'{one}' has no key; write KEY=VALUE")
        if key == "paths" or (key in _PATHS and (value in ("", "null") or value[0] in "[{")):
            raise UserError(f"'{one}' is not a directory; write paths.data=DIR or paths.runs=DIR")
        if key.startswith("~") and key[1:] in (*TOP_KEYS, *_PATHS):
            raise UserError(f"{key[1:]} cannot be removed, because every run needs it; change it with {key[1:]}=...")
        if key == "sweep" and value != "null":
            names = [name for name, _ in entries("sweep", config_dir)]
            if value not in names:
                raise UserError(f"sweep={value} is not known{suggest(value, names)}")
            if not several:
                raise UserError(f"sweep={value} stands for several runs; use `dmlbench sweep sweep={value}`")
    return [_with_path(_of_search_space(re.sub(r"^\+sweep=", "sweep=", one))) for one in overrides]


def _of_search_space(override: str) -> str:
    """Let overrides change and remove the ranges of the learning rates, which no file lists."""
    removed = re.fullmatch(r"~loss\.search\.(lr|head_lr_scale|lr_scale)", override)
    return f"++loss.search.{removed[1]}=null" if removed else re.sub(r"^\+{0,2}loss\.search\.", "++loss.search.", override)


def _with_path(override: str) -> str:
    """Expand `~`, which shells leave in `KEY=~/PATH` and Hydra cannot parse, and quote a path that is a number."""
    key, _, value = override.partition("=")
    if value.startswith("~"):
        return f"{key}={os.path.expanduser(value)}"
    return f"{key}='{value}'" if key in (*_PATHS, "dataset.root") and value.isdecimal() else override


def _with_full_key(error: UserError, overrides: Sequence[str], config_dir: Path | None) -> UserError:
    """Suggest the full key if an added key, such as `+epochs=2`, is not known to the schema."""
    from dmlbench.cli.unknown_keys import describe_unknown_key

    found = re.match(r"([\w.]+) is not known;", str(error))
    return UserError(describe_unknown_key(found[1], overrides, config_dir)) if found else error


def check_jobs(job_lists: Sequence[JobList]) -> None:
    """Check what composing does not, so that no run starts before a later one is refused.

    Paths and sizes of batches are checked before torch is imported. The data are read if there are several jobs. A single
    job checks itself before it writes anything.

    Args:
        job_lists: Jobs.

    Raises:
        UserError: A value is wrong, does not fit the data, or is refused by its constructor; or the device is not available.
    """
    from dmlbench.config import requirements
    from dmlbench.config.compose import resolve

    jobs = [job for one in job_lists for job in one.jobs]
    for job in jobs:
        requirements.check_requirements(resolve(job.composed))

    from dmlbench.runs.checks import check_composed

    for job in jobs:
        check_composed(job.composed)
    if len(jobs) > 1:
        from dmlbench.runs.job_checks import check_with_data
        from dmlbench.system.signals import raise_on_signals

        raise_on_signals()
        check_with_data(jobs)


def prepare_composing(arguments: argparse.Namespace) -> None:
    """Check `--config-dir`, and let configurations name the user's own code.

    Args:
        arguments: Parsed arguments of a command with `--config-dir`.
    """
    allow_own_code(check_config_dir(arguments.config_dir))


def print_configurations(job_lists: Sequence[JobList]) -> None:
    """Print the composed configuration of every job as YAML.

    Args:
        job_lists: Jobs.
    """
    from omegaconf import OmegaConf

    jobs = [job for one in job_lists for job in one.jobs]
    for job in jobs:
        if len(jobs) > 1:
            print(f"# {job.name}")
        print(OmegaConf.to_yaml(job.composed.cfg), end="")
