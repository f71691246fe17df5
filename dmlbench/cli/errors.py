"""Translate errors of Hydra and OmegaConf into one sentence: the value, the key, and what would have worked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from dmlbench.config.compose import TOP_KEYS, compose
from dmlbench.config.files import conf_dir
from dmlbench.errors import UserError, suggest

# What composing a configuration raises: ValueError for `loss=3`, OSError for a directory that cannot be created.
COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)
# Groups whose files hold the arguments of a constructor.
CONSTRUCTOR_GROUPS = ("dataset", "trunk", "loss", "sampler", "optimizer")
_CHOICE = re.compile(rf"({'|'.join(CONSTRUCTOR_GROUPS)}|protocol)=([\w,-]+)")


def translate_error(error: Exception, overrides: Sequence[str], config_dir: Path | None = None) -> UserError:
    """Translate an error of composing a configuration.

    Args:
        error: One of `COMPOSE_ERRORS`.
        overrides: What was composed.
        config_dir: Directory of the user's own configuration files.
    """
    text = str(error)
    for translate in (_no_such_file, _missing_value, _several_values, _not_parsed, _invalid_yaml, _not_writable):
        if sentence := translate(error, text, overrides):
            return UserError(sentence)
    if sentence := _no_such_key(error, text, overrides, config_dir):
        return UserError(sentence)
    return UserError(re.sub(r"\s+", " ", text.partition("\n    full_key")[0]).strip())


def _no_such_file(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"Could not find '([\w/]+)/([^'/]*)'", text)
    if not found:
        return None
    group, name = found.groups()
    options = re.findall(r"^\t([\w-]+)$", text.partition("Config search path")[0], re.MULTILINE)
    return f"{group}={name} is not known{suggest(name, options)}"


def _missing_value(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"[Mm]issing mandatory value: (\S+)", text)
    if not isinstance(error, MissingMandatoryValue) or not found:
        return None
    return f"{found[1]} is missing; set it with {found[1]}=..."


def _several_values(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    found = re.search(r"Ambiguous value for argument '([^']*)'", text)
    if not found:
        return None
    return f"'{found[1]}' names several values; use `dmlbench sweep`, or `dmlbench train -m`, to run all of them"


def _not_parsed(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    if type(error).__name__ != "OverrideParseException":
        return None
    override = getattr(error, "override", None) or next((one for one in overrides if one in text), "")
    return f"'{override}' cannot be parsed; write KEY=VALUE, and quote a value with spaces or brackets: 'KEY=\"VALUE\"'"


def _invalid_yaml(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return None
    mark = error.problem_mark
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1} is not valid YAML: {error.problem}"


def _not_writable(error: Exception, text: str, overrides: Sequence[str]) -> str | None:
    if not isinstance(error, OSError) or not error.filename:
        return None
    return f"{error.filename} cannot be used: {error.strerror}"


def _no_such_key(error: Exception, text: str, overrides: Sequence[str], config_dir: Path | None) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text)
    if not found or not isinstance(error.__cause__, ConfigKeyError | AttributeError):
        return None
    key = found[1]
    parent, _, last = key.rpartition(".")
    group = parent.partition(".")[0]
    files = {name: keys for name, keys in _keys(parent, overrides, config_dir).items() if last not in keys}
    known = {one for keys in files.values() for one in keys}
    several = len(_chosen_files(group, overrides, config_dir)) > 1 and files
    lacking = f" to {', '.join(f'{group}={name}' for name in files)}" if several else ""
    sentence = f"{key} is not known{lacking}{suggest(last, known)}"
    if group in CONSTRUCTOR_GROUPS and "did you mean" not in sentence:
        sentence += f" (to add an argument that its file leaves out, use +{key}=...)"
    return sentence


def _chosen_files(group: str, overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """The files of a group that the overrides choose, or those that their sweep does."""
    choices = {found[1]: found[2] for one in overrides if (found := _CHOICE.fullmatch(one))}
    if group in choices:
        return choices[group].split(",")
    sweep = next((one.partition("=")[2] for one in overrides if one.lstrip("+").startswith("sweep=")), None)
    for folder in (conf_dir(), *([config_dir] if config_dir else [])):
        file = folder / "sweep" / f"{sweep}.yaml"
        if file.is_file():
            swept = OmegaConf.select(OmegaConf.load(file), f"hydra.sweeper.params.{group}")
            return str(swept).split(",") if swept else []
    return []


def _keys(parent: str, overrides: Sequence[str], config_dir: Path | None) -> dict[str, list[str]]:
    """The keys of a node under the same choice of files: for each chosen file of its group, or for the default."""
    if not parent:
        return {"": list(TOP_KEYS)}
    group = parent.partition(".")[0]
    matches = [found for one in overrides if (found := _CHOICE.fullmatch(one)) and found[1] != group]
    others = [f"{found[1]}={found[2].split(',')[0]}" for found in matches]
    keys: dict[str, list[str]] = {}
    for name in _chosen_files(group, overrides, config_dir) or [""]:
        try:
            composed = compose([*others, *([f"{group}={name}"] if name else [])], config_dir)
            node: Any = OmegaConf.select(composed.cfg, parent)
        except (HydraException, OmegaConfBaseException, UserError):
            continue
        is_node = isinstance(node, Mapping) or OmegaConf.is_dict(node)
        keys[name] = [str(key) for key in node] if is_node else []
    return keys
