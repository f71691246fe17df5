"""From overrides with several values to jobs: one composed configuration each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from dmlbench.config.compose import Composed, chosen_files, compose, compose_with_hydra, directory, resolve
from dmlbench.config.reserved_arguments import OF_TRAINING, refuse_without_effect
from dmlbench.config.schema import Method, defaults

BASIC_LAUNCHER = "basic"  # Hydra's own: one job after the other, in this process


@dataclass(frozen=True, eq=False)
class Job:
    """One run to execute.

    Args:
        name: Name in print, unique within a sweep.
        composed: Its configuration.
    """

    name: str
    composed: Composed

    def check(self) -> None:
        """Check every value that can be checked without the data and without torch.

        Raises:
            UserError: A value is wrong, or has no effect.
        """
        refuse_without_effect(self.composed.overrides, resolve(self.composed))


@dataclass(frozen=True, eq=False)
class JobList:
    """The jobs of some overrides.

    Args:
        overrides: As given, with their lists of values.
        jobs: One job per combination of values.
        swept: Keys with several values, other than loss and seed.
        sweep_params: What the chosen file of `conf/sweep/` sweeps over: key to values.
        launcher: Name of Hydra's launcher.
        runs_dir: Directory of runs.
        config_dir: Directory of the user's own configuration files.
    """

    overrides: tuple[str, ...]
    jobs: tuple[Job, ...]
    swept: tuple[str, ...] = ()
    sweep_params: Mapping[str, str] = field(default_factory=dict)
    launcher: str = BASIC_LAUNCHER
    runs_dir: Path = Path("runs")
    config_dir: Path | None = None


def one_job(overrides: Sequence[str], config_dir: str | None = None) -> JobList:
    """Compose and check a single job.

    Args:
        overrides: Hydra overrides with one value each.
        config_dir: Directory of the user's own configuration files.

    Raises:
        HydraException, OmegaConfBaseException: The overrides do not compose, or name several values.
        UserError: A value is wrong, or has no effect.
    """
    composed = compose(overrides, config_dir)
    job = Job(job_name(composed.cfg, composed.choices, overrides, ()), composed)
    job.check()
    runs_dir = directory(composed.cfg, "runs")
    return JobList(tuple(overrides), (job,), runs_dir=runs_dir, config_dir=composed.config_dir)


def all_jobs(overrides: Sequence[str], config_dir: str | None = None) -> JobList:
    """Compose and check one job for each combination of values, of the overrides and of the chosen file of `conf/sweep/`.

    Args:
        overrides: Hydra overrides with one or more values each.
        config_dir: Directory of the user's own configuration files.

    Raises:
        HydraException, OmegaConfBaseException: The overrides do not compose.
        UserError: A value of a job is wrong, or has no effect.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    # Choices of files compose on their own; a value may exist for one of several losses only.
    choices = [one for one in parsed if "." not in one.key_or_group or one.key_or_group.startswith(("hydra.", "paths."))]
    cfg = compose_with_hydra([_first_value(one) for one in choices], config_dir)
    given = {one.key_or_group for one in parsed}
    params = {str(key): str(value) for key, value in (cfg.hydra.sweeper.params or {}).items() if str(key) not in given}
    every = [*OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()]), *parsed]
    swept = tuple(one.key_or_group for one in every if one.is_sweep_override() or one.key_or_group in params)
    swept = tuple(key for key in swept if key not in ("loss", "seed"))
    [combinations] = BasicSweeper.split_arguments(every, None)
    launcher = cfg.hydra.runtime.choices.get("hydra/launcher") or BASIC_LAUNCHER
    return JobList(
        overrides=tuple(overrides),
        jobs=tuple(_composed_jobs(combinations, swept, config_dir)),
        swept=swept,
        sweep_params=params,
        launcher=launcher,
        runs_dir=directory(cfg, "runs"),
        config_dir=Path(config_dir) if config_dir else None,
    )


def _composed_jobs(combinations: Sequence[Sequence[str]], swept: Sequence[str], config_dir: str | None) -> list[Job]:
    """Compose each combination, and check it at once; chosen files are composed once."""
    jobs: dict[tuple[str, ...], Job] = {}
    files: dict[tuple[str, ...], Composed | None] = {}
    wanted = [tuple(one) for one in combinations]
    for combination in dict.fromkeys([*_every_value_once(wanted), *wanted]):
        chosen = chosen_files(combination)
        composed = compose(combination, config_dir, files.get(chosen))
        files[chosen] = composed if chosen == combination else composed.files
        job = jobs[combination] = job_of_sweep(composed, swept)
        job.check()
    return list({jobs[combination].name: jobs[combination] for combination in wanted}.values())


def job_of_sweep(composed: Composed, swept: Sequence[str]) -> Job:
    """Make a job of a sweep. A method without training ignores values of training, so several of its jobs may be one.

    Args:
        composed: Configuration of the job, as its overrides compose.
        swept: Keys with several values.
    """
    composed = _without_training_values(_with_numbers(composed))
    return Job(job_name(composed.cfg, composed.choices, composed.overrides, swept), composed)


def _without_training_values(composed: Composed) -> Composed:
    """A configuration without the overrides that have no effect on a method without training; others are unchanged."""
    given = {one: one.lstrip("+").partition("=")[0] for one in composed.overrides}
    ignored = {one: key for one, key in given.items() if key in OF_TRAINING and composed.cfg.loss.get("kind") == "none"}
    if not ignored:
        return composed
    without = composed.with_values({key: defaults(Method)[key.removeprefix("loss.")] for key in ignored.values()})
    overrides = tuple(one for one in composed.overrides if one not in ignored)
    return replace(without, overrides=overrides)


def _every_value_once(combinations: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The fewest combinations that contain every value: a wrong value is found without composing all of the others first.

    >>> _every_value_once([("a=1", "b=1"), ("a=1", "b=2"), ("a=2", "b=1"), ("a=2", "b=2")])
    [('a=1', 'b=1'), ('a=2', 'b=2')]
    """
    values = [list(dict.fromkeys(column)) for column in zip(*combinations, strict=True)]
    longest = max((len(one) for one in values), default=0)
    return [tuple(one[index % len(one)] for one in values) for index in range(longest)]


def job_name(cfg: DictConfig, choices: Mapping[str, str], overrides: Sequence[str], swept: Sequence[str]) -> str:
    """Name a job in print, by its loss, its seed and the other values that differ between the jobs.

    Args:
        cfg: Composed configuration.
        choices: Chosen file of each group.
        overrides: The job's overrides, one value each.
        swept: Keys with several values.
    """
    own = [one for one in overrides if one.partition("=")[0].lstrip("+") in swept]
    return " ".join([f"loss={choices['loss']}", f"seed={cfg.get('seed')}", *own])


def _with_numbers(composed: Composed) -> Composed:
    """A configuration whose overrides have learning rates as numbers instead of multiples of the protocol's."""
    keys = {one: one.partition("=")[0].lstrip("+") for one in composed.overrides if "{lr_times" in one}
    overrides = [
        f"{keys[one]}={OmegaConf.select(composed.cfg, keys[one])}" if one in keys else one for one in composed.overrides
    ]
    return replace(composed, overrides=tuple(overrides)) if keys else composed


def _first_value(override: Override) -> str:
    """An override with the first of its values."""
    if not override.is_sweep_override():
        return str(override.input_line)
    first: Any = next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={first}"
