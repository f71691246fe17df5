"""How a configuration was composed: the overrides that determine results, and the files that it consists of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dmlbench.config.compose import Composed, compose, resolve
from dmlbench.config.files import conf_dir
from dmlbench.config.identity import digest
from dmlbench.config.plan import protocol_columns
from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError

# Overrides that determine where or how a run is executed, not what it computes.
_EXECUTION = ("seed", "device", "workers", "compile", "retry", "sweep", "paths", "hydra")
# Groups whose files other chosen files choose too.
_CHOSEN_BY_FILES = ("optimizer", "sampler")
_ABSENT = object()


def provenance(composed: Composed) -> dict[str, Scalar]:
    """Return the columns that record how a configuration was composed.

    Args:
        composed: Composed configuration.

    Returns:
        `overrides`: JSON list of the overrides that change a value of the chosen files, as `key=value`, sorted; and
        `config_files`: JSON object of each file that was used to its SHA-256.
    """
    files = json.dumps(file_digests(composed.choices, composed.config_dir))
    return {"overrides": json.dumps(effective_overrides(composed, files)), "config_files": files}


def effective_overrides(composed: Composed, files: str) -> list[str]:
    """Return the overrides that determine results and change a value, in the form of `recorded_overrides`.

    Choices of data set, loss, trunk and protocol always count. The configuration is composed once more from the chosen files
    alone, unless `Composed.files` has them; jobs that choose the same files share it.

    Args:
        composed: Composed configuration.
        files: Digests of its files, which tell when a file has changed.
    """
    groups = {group.partition("@")[0] for group in composed.choices}
    parsed = OverridesParser.create().parse_overrides(list(composed.overrides))
    chosen = [one for one in parsed if one.key_or_group in groups or one.key_or_group == "hydra.searchpath"]
    chosen = [one for one in chosen if not one.key_or_group.startswith("hydra/")]
    recorded = recorded_overrides(composed.overrides)
    if all(_key(one) in groups - set(_CHOSEN_BY_FILES) for one in recorded):
        return recorded
    lines = tuple(str(one.input_line) for one in chosen if one.key_or_group not in _CHOSEN_BY_FILES)
    base = _chosen_files(composed, lines, files)
    redundant = {group for group in _CHOSEN_BY_FILES if base.choices[group] == composed.choices[group]}
    if any(one.key_or_group in set(_CHOSEN_BY_FILES) - redundant for one in chosen):
        lines = tuple(str(one.input_line) for one in chosen)
        base = _chosen_files(composed, lines, files)
    own, given = _unresolved(composed.cfg), _unresolved(base.cfg)
    found = []
    for one in recorded:
        key = _key(one)
        is_redundant = key in redundant if key in groups else _is_equal(key, own, given, composed)
        if not is_redundant:
            found.append(one)
    return found


def _chosen_files(composed: Composed, overrides: tuple[str, ...], files: str) -> Composed:
    known = composed.files
    if known is not None and known.overrides == overrides:
        return known
    return _composed_again(overrides, composed.config_dir, files)


@lru_cache(64)
def _composed_again(overrides: tuple[str, ...], config_dir: Path | None, files: str) -> Composed:
    """Compose chosen files. `files`, their digests, is part of the key of the cache only."""
    current = HydraConfig.instance().cfg
    try:
        return compose(overrides, config_dir)
    finally:
        HydraConfig.instance().cfg = current  # `${hydra:...}` refers to the configuration of the job


def _unresolved(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part, _ABSENT) if isinstance(values, Mapping) else _ABSENT
    return values


def _is_equal(key: str, own: Any, given: Any, composed: Composed) -> bool:
    """Return whether a key would give the same columns of the row with the value of the chosen files.

    Args:
        key: Dotted key.
        own: All values of the job, interpolations as text.
        given: All values of the chosen files, interpolations as text.
        composed: Configuration of the job.
    """
    value, before = _value(own, key), _value(given, key)
    if _ABSENT in (value, before):
        return False
    if digest({key: value}) == digest({key: before}):
        return True
    group, _, name = key.partition(".")
    if group != "protocol":
        return False
    try:
        protocol = resolve(composed).protocol
        changed = replace(protocol, **{name: _resolved(before, key, composed)}).resolved
    except (UserError, TypeError, OmegaConfBaseException):  # not possible with the other values of the job
        return False
    return digest(protocol_columns(protocol)) == digest(protocol_columns(changed))


def _resolved(value: Any, key: str, composed: Composed) -> Any:
    """Resolve a value that may be an interpolation, as if the key had it."""
    if isinstance(value, str) and "${" in value:
        return OmegaConf.select(composed.with_values({key: value}).cfg, key)
    return value


def _key(override: str) -> str:
    """Return the key of `key=value` or `~key`."""
    return override.lstrip("~").partition("=")[0]


def recorded_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that determine results, the last one of each key, sorted.

    Args:
        overrides: Hydra overrides.

    Returns:
        Overrides as `key=value`, and removed keys as `~key`.

    >>> recorded_overrides(["protocol.lr=1e-3", "seed=1", "+optimizer.amsgrad=true", "protocol.lr=0.1"])
    ['optimizer.amsgrad=true', 'protocol.lr=0.1']
    """
    found = {}
    for one in OverridesParser.create().parse_overrides(list(overrides)):
        key = one.key_or_group
        if key.partition(".")[0].partition("/")[0] not in _EXECUTION:
            found[key] = f"~{key}" if one.type == OverrideType.DEL else f"{key}={_value_text(one)}"
    return [found[key] for key in sorted(found)]


def _value_text(override: Override) -> str:
    text = override.get_value_element_as_str()
    return text.lower() if isinstance(override.value(), bool) else text  # Hydra prints True, but YAML has true


def file_digests(choices: Mapping[str, str], config_dir: Path | None) -> dict[str, str]:
    """Return the chosen configuration files and those that they inherit, each with its SHA-256.

    Args:
        choices: Chosen file of each group, as Hydra reports them.
        config_dir: Directory of the user's own configuration files.

    Returns:
        File as `group/name` to the hex digits of its SHA-256: the chosen files, sorted, then those that they inherit. Groups of
        Hydra itself are left out.
    """
    chosen = [f"{group.partition('@')[0]}/{name}" for group, name in choices.items() if not group.startswith("hydra")]
    left, found = sorted(chosen), dict[str, str]()
    while left:
        name = left.pop(0)
        content = None if name in found else _content(name, config_dir)
        if content is not None:
            found[name] = hashlib.sha256(content).hexdigest()
            left += _inherited(name.rpartition("/")[0], content)
    return found


def _content(name: str, config_dir: Path | None) -> bytes | None:
    for directory in (conf_dir(), *([config_dir] if config_dir else [])):
        file = directory / f"{name}.yaml"
        if file.is_file():
            return file.read_bytes()
    return None


@lru_cache(256)
def _inherited(group: str, content: bytes) -> tuple[str, ...]:
    """Return the files that the defaults of a file name; files of other groups that it chooses are choices of Hydra."""
    values = yaml.safe_load(content)
    listed = values.get("defaults") if isinstance(values, dict) else None
    return tuple(_named(group, listed)) if isinstance(listed, list) else ()


def _named(group: str, defaults: Sequence[Any]) -> Iterator[str]:
    for one in defaults:
        if isinstance(one, str) and one != "_self_":
            name = one.removeprefix("optional ").partition("@")[0]
            yield name.lstrip("/") if name.startswith("/") else f"{group}/{name}"
