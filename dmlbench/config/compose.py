"""From overrides to composed and checked configurations. Needs Hydra, but neither torch nor the data.

    overrides --compose--> Composed --resolve--> Settings

Hydra composes files and overrides; `resolve` turns the result into the classes of `schema`, so that every wrong key, type
and range is refused within a second of the command.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dmlbench.config.files import conf_dir
from dmlbench.config.finite import refuse_not_finite
from dmlbench.config.presets import GROUP as PRESET
from dmlbench.config.presets import NONE as NO_PRESET
from dmlbench.config.protocol_dataset import bring_dataset_values, refuse_unused_split
from dmlbench.config.reserved_arguments import refuse_set_by_training
from dmlbench.config.schema import GROUPS, Dataset, Method, Protocol, Trunk, Tuning, defaults
from dmlbench.config.single_values import single_values
from dmlbench.config.typed import as_typed, typed
from dmlbench.errors import UserError, suggest

TOP_KEYS = (*GROUPS, "sampler", "optimizer", "seed", "device", "workers", "oracle", "compile", "retry", "paths")
DEVICES = ("auto", "cpu", "cuda")
RETRY = ("none", "failed")
# Counts of the data set's files that configurations may refer to, as `${dataset.train_classes}`.
SPLIT_FACTS = ("train_classes", "train_images", "test_classes", "query_images", "gallery_images")


@dataclass(frozen=True, eq=False)
class Composed:
    """What Hydra made of the overrides of one job.

    Args:
        cfg: The configuration, with unresolved interpolations and without Hydra's own node.
        choices: Chosen file of each group, such as `{"loss": "triplet"}`.
        overrides: The job's overrides, presets expanded.
        config_dir: Directory of the user's own configuration files.
        files: The same chosen files without overrides of single values; None if they have not been composed on their own.
    """

    cfg: DictConfig
    choices: Mapping[str, str]
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None
    files: Composed | None = None
    _settings: dict[frozenset[tuple[str, int]], Settings] = field(default_factory=dict, init=False, repr=False)

    @property
    def preset(self) -> str:
        """Name of the preset, or `none`."""
        return self.choices.get(PRESET, NO_PRESET).partition("/")[0]

    def with_values(self, values: Mapping[str, Any]) -> Composed:
        """Return a copy in which some values are replaced.

        Args:
            values: Dotted key, such as `loss.make.margin`, to value. Keys must exist.
        """
        cfg = copy.deepcopy(self.cfg)
        for key, value in values.items():
            OmegaConf.update(cfg, key, value)
        return replace(self, cfg=cfg)


@dataclass(frozen=True)
class Settings:
    """A composed configuration with all interpolations resolved and every value checked.

    Args:
        dataset: Data set as declared; facts of the files are filled in once these are read.
        trunk: Trunk.
        method: Method.
        protocol: Protocol, resolved.
        tuning: Tuning budget.
        sampler: `_target_` and arguments.
        optimizer: `_target_` and arguments.
        seed: Seed of the run.
        device: One of `DEVICES`.
        workers: Processes that load images; -1 for automatic.
        oracle: Whether to record what choosing the epoch on the test set would have claimed.
        compile: Whether to compile the trunk.
        retry_failed: Whether to run methods again whose row has the status `failed`.
        data_dir: Directory of data sets and caches.
        runs_dir: Directory of runs.
    """

    dataset: Dataset
    trunk: Trunk
    method: Method
    protocol: Protocol
    tuning: Tuning
    sampler: dict[str, Any]
    optimizer: dict[str, Any]
    seed: int
    device: str
    workers: int
    oracle: bool
    compile: bool
    retry_failed: bool
    data_dir: Path
    runs_dir: Path

    @property
    def batch_sampler(self) -> dict[str, Any]:
        """The sampler that the run uses: that of the method, or else that of the protocol."""
        return self.method.sampler or self.sampler


def compose(overrides: Sequence[str], config_dir: str | Path | None = None, files: Composed | None = None) -> Composed:
    """Compose a configuration: the chosen files, and then the overrides of single values, as Hydra does it.

    Args:
        overrides: Hydra overrides, such as `loss=triplet` or `protocol.epochs=2`.
        config_dir: Directory of the user's own configuration files.
        files: What `chosen_files(overrides)` compose to, if that is known; Hydra takes a tenth of a second for it.

    Raises:
        HydraException, OmegaConfBaseException: The overrides do not compose; see `cli.errors`.
    """
    values, chosen = single_values(overrides), chosen_files(overrides)
    if not values:
        return files or _compose(overrides, config_dir)
    files = files or _compose(chosen, config_dir)
    try:
        composed = files.with_values(dict(values[one] for one in overrides if one in values))
    except OmegaConfBaseException:
        return _compose(overrides, config_dir)  # raises Hydra's own error
    bring_dataset_values(composed.cfg, overrides)
    if "{hydra:" in repr(composed.cfg):  # its value may depend on all overrides
        return _compose(overrides, config_dir)
    return replace(composed, overrides=tuple(overrides), files=files)


def chosen_files(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that are not `single_values`.

    Args:
        overrides: Hydra overrides, one value each.
    """
    values = single_values(overrides)
    return tuple(one for one in overrides if one not in values)


def _compose(overrides: Sequence[str], config_dir: str | Path | None) -> Composed:
    cfg = compose_with_hydra(overrides, config_dir)
    choices = {str(group): str(name) for group, name in cfg.hydra.runtime.choices.items()}
    with open_dict(cfg):
        del cfg["hydra"]
    return Composed(cfg, choices, tuple(overrides), Path(config_dir) if config_dir else None)


def compose_with_hydra(overrides: Sequence[str], config_dir: str | Path | None = None) -> DictConfig:
    """Compose a configuration and keep Hydra's own node.

    Args:
        overrides: Hydra overrides.
        config_dir: Directory of the user's own configuration files.
    """
    if config_dir is not None:
        cfg = _compose_with_hydra(overrides, [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"])
    elif any("searchpath" in override or "${" in override for override in overrides):
        cfg = _compose_with_hydra(overrides, [])  # other files, or the environment, may decide
    else:
        cfg = copy.deepcopy(_composed_files(tuple(overrides), _version_of_files()))
        cfg.hydra.runtime.cwd = os.getcwd()  # nothing else depends on the current directory
    HydraConfig.instance().set_config(cfg)  # so that `${hydra:...}` resolves
    bring_dataset_values(cfg, overrides)
    return cfg


def _version_of_files() -> tuple[tuple[str, int, int], ...]:
    """The path of each configuration file, the time of its last change, and its size."""
    states = ((str(file), file.stat()) for file in sorted(conf_dir().rglob("*")))
    return tuple((path, state.st_mtime_ns, state.st_size) for path, state in states)


@lru_cache(128)
def _composed_files(overrides: tuple[str, ...], files: tuple[tuple[str, int, int], ...]) -> DictConfig:
    """What overrides of shipped files compose to; remembered, because a notebook or a server composes the same files again."""
    return _compose_with_hydra(overrides, [])


def _compose_with_hydra(overrides: Sequence[str], search_path: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    register_with_hydra()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose("config", overrides=[*overrides, *search_path], return_hydra_config=True)


def register_with_hydra() -> None:
    """Give Hydra the defaults of the schema and `${lr_times:FACTOR}`, and take out the launchers that `conf/` describes.

    Plugins describe their launchers themselves; Hydra would merge both descriptions, and warn.
    """
    OmegaConf.register_new_resolver("lr_times", _lr_times, replace=True)
    Plugins.instance()  # fills the store
    store = ConfigStore.instance()
    store.store(name="schema", node={group: defaults(cls) for group, cls in GROUPS.items()}, provider="dmlbench")
    described = store.repo.get("hydra", {}).get("launcher", {})
    for file in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        described.pop(file.name, None)


def _lr_times(factor: float, *, _root_: DictConfig) -> Any:
    """The learning rate of the protocol times a factor, with four significant digits. What is no number is refused later."""
    lr = _root_.protocol.lr
    return float(f"{lr * factor:.4g}") if isinstance(lr, int | float) else lr


def resolve(composed: Composed, facts: Mapping[str, int] | None = None) -> Settings:
    """Resolve all interpolations and check every value, once for the same configuration and facts.

    Args:
        composed: Composed configuration. It must not be changed afterwards; `Composed.with_values` makes a changed copy.
        facts: Counts of the data set's files, such as `train_classes`, which interpolations may refer to. None while the
            files have not been read: then interpolations refer to the declared facts, and to 1 for each undeclared fact.

    Raises:
        UserError: A key is unknown, or a value is missing, of the wrong type or out of range.
        OmegaConfBaseException: An interpolation leads nowhere.
    """
    key = frozenset((facts or {}).items())
    if key not in composed._settings:
        composed._settings[key] = _resolve(composed.cfg, composed.choices, facts or {})
    return composed._settings[key]


def _resolve(cfg: DictConfig, choices: Mapping[str, str], facts: Mapping[str, int]) -> Settings:
    refuse_unknown_keys(cfg)
    refuse_set_by_training(cfg)
    dataset = _dataset(plain(cfg, "dataset"), choices["dataset"], facts)
    known = facts or {name: getattr(dataset, name) or 1 for name in SPLIT_FACTS}
    referred = {"name": dataset.name, "label": dataset.label, **known}
    cfg = OmegaConf.merge(cfg, {"dataset": referred})  # type: ignore[assignment]  # a DictConfig, as both are
    protocol = typed(Protocol, "protocol", {"name": choices["protocol"], **plain(cfg, "protocol")}).resolved
    refuse_unused_split(protocol, dataset)
    return Settings(
        dataset=dataset,
        trunk=typed(Trunk, "trunk", _named(plain(cfg, "trunk"), choices["trunk"])),
        method=typed(Method, "loss", _named(plain(cfg, "loss"), choices["loss"])),
        protocol=protocol,
        tuning=typed(Tuning, "tuning", plain(cfg, "tuning")),
        sampler=plain(cfg, "sampler"),
        optimizer=plain(cfg, "optimizer"),
        seed=_whole_number("seed", cfg.seed),
        device=_one_of("device", cfg.device, DEVICES),
        workers=-1 if cfg.workers == "auto" else _whole_number("workers", cfg.workers),
        oracle=_boolean("oracle", cfg.oracle),
        compile=_boolean("compile", cfg.compile),
        retry_failed=_one_of("retry", cfg.retry, RETRY) == "failed",
        data_dir=directory(cfg, "data"),
        runs_dir=directory(cfg, "runs"),
    )


def refuse_unknown_keys(cfg: DictConfig) -> None:
    """Refuse top-level keys that nothing reads.

    Args:
        cfg: Composed configuration.

    Raises:
        UserError: Names the key, and a similar one.
    """
    for key in cfg:
        if key not in TOP_KEYS:
            raise UserError(f"{key!s} is not known{suggest(str(key), TOP_KEYS)}")
    for key in plain(cfg, "paths"):
        if key not in ("data", "runs"):
            raise UserError(f"paths.{key} is not known{suggest(key, ('data', 'runs'))}")


def dataset_settings(composed: Composed) -> Dataset:
    """Check the values of the data set alone, for commands that need nothing else.

    Args:
        composed: Composed configuration.
    """
    refuse_unknown_keys(composed.cfg)
    return _dataset(plain(composed.cfg, "dataset"), composed.choices["dataset"], {})


def _dataset(values: dict[str, Any], choice: str, facts: Mapping[str, int]) -> Dataset:
    root = values.get("root")
    name = values.get("name") or (Path(root).resolve().name if root else choice)
    if not (values.get("make") or {}).get("root", "not needed"):
        raise UserError("dataset.root is missing; set the directory of the images with dataset.root=DIRECTORY")
    return typed(Dataset, "dataset", {**values, "name": name, "label": values.get("label") or name, **facts})


def _named(values: dict[str, Any], choice: str) -> dict[str, Any]:
    return {"label": choice, **values, "name": choice}


def plain(cfg: DictConfig, group: str) -> dict[str, Any]:
    """Return a group of a configuration as plain Python values, with interpolations resolved.

    Args:
        cfg: Composed configuration.
        group: Name of the group, such as `protocol`.

    Raises:
        UserError: The group is not a mapping, or contains a number that is not finite.
    """
    values = cfg[group]
    if OmegaConf.is_config(values):
        values = OmegaConf.to_container(values, resolve=True, throw_on_missing=True)
    if not isinstance(values, dict):
        raise UserError(f"{group} is {as_typed(values)}, but a mapping is needed")
    refuse_not_finite(group, values)
    return {f"{key!s}": value for key, value in values.items()}


def directory(cfg: DictConfig, name: str) -> Path:
    """Return one of the configured directories.

    Args:
        cfg: Composed configuration.
        name: `data` or `runs`.

    Raises:
        UserError: The value is not text.
    """
    value = plain(cfg, "paths").get(name)
    if not isinstance(value, str):
        raise UserError(f"paths.{name} is {as_typed(value)}, but a directory is needed")
    return Path(value)


def _whole_number(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"{key} is {as_typed(value)}, but a whole number from 0 on is needed")
    return value


def _boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{key} is {as_typed(value)}, but true or false is needed")
    return value


def _one_of(key: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise UserError(f"{key} is {as_typed(value)}; it must be {', '.join(choices[:-1])} or {choices[-1]}")
    return str(value)
