"""Floor 6: Hydra's and OmegaConf's errors as one sentence that names the value, the place, and what would have worked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from dmlbench.configs import conf_dir
from dmlbench.errors import UserError, suggest
from dmlbench.launch import TOP, compose

# What comes out of composing a configuration: ValueError for `loss=3`, OSError for a folder that cannot be made.
COMPOSING = (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError)


def reword(error: Exception, words: Sequence[str]) -> UserError:
    """Word a composition error anew.

    Args:
        error: one of `COMPOSING`, as it was raised.
        words: what the user typed.
    """
    text = str(error)
    for wording in WORDINGS:
        sentence = wording(error, text, words)
        if sentence:
            return UserError(sentence)
    return UserError(re.sub(r"\s+", " ", text.partition("\n    full_key")[0]).strip())


def _no_such_file(error: Exception, text: str, words: Sequence[str]) -> str | None:
    found = re.search(r"Could not find '([\w/]+)/([^'/]*)'", text)
    if not found:
        return None
    group, name = found.groups()
    options = re.findall(r"^\t([\w-]+)$", text.partition("Config search path")[0], re.MULTILINE)
    return f"{group}={name} is not known{suggest(name, options)}"


def _no_such_key(error: Exception, text: str, words: Sequence[str]) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text)
    if not found or not isinstance(error.__cause__, ConfigKeyError | AttributeError):
        return None
    key = found[1]
    parent, _, last = key.rpartition(".")
    group = parent.partition(".")[0]
    files = {name: keys for name, keys in _keys(parent, words).items() if last not in keys}
    known = {one for keys in files.values() for one in keys}
    several = len(_named(group, words)) > 1 and files
    lacking = f" to {', '.join(f'{group}={name}' for name in files)}" if several else ""
    sentence = f"{key} is not known{lacking}{suggest(last, known)}"
    if group in GROUPS and "did you mean" not in sentence:
        sentence += f" (an argument that its file leaves out is added with +{key}=...)"
    return sentence


GROUPS = ("dataset", "trunk", "loss", "sampler", "optimizer")  # files whose arguments are a constructor's
_CHOICE = re.compile(rf"({'|'.join(GROUPS)}|protocol)=([\w,-]+)")


def _named(group: str, words: Sequence[str]) -> list[str]:
    """The files of a group that the words name; where they name none, those that their sweep does."""
    choices = {found[1]: found[2] for word in words if (found := _CHOICE.fullmatch(word))}
    if group in choices:
        return choices[group].split(",")
    sweep = next((word.partition("=")[2] for word in words if word.lstrip("+").startswith("sweep=")), None)
    for place in (conf_dir(), *(Path(folder) for folder in [_config_dir(words)] if folder)):
        file = place / "sweep" / f"{sweep}.yaml"
        if file.is_file():
            swept = OmegaConf.select(OmegaConf.load(file), f"hydra.sweeper.params.{group}")
            return str(swept).split(",") if swept else []
    return []


def _config_dir(words: Sequence[str]) -> str | None:
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name == "--config-dir":
            return value if equals else following
    return None


def _keys(parent: str, words: Sequence[str]) -> dict[str, list[str]]:
    """The keys that a node has under the same choice of files: for each named file of its group, or for the one in force."""
    if not parent:
        return {"": list(TOP)}
    group = parent.partition(".")[0]
    others = [
        f"{found[1]}={found[2].split(',')[0]}" for word in words if (found := _CHOICE.fullmatch(word)) and found[1] != group
    ]
    keys: dict[str, list[str]] = {}
    for name in _named(group, words) or [""]:
        try:
            cfg, _ = compose([*others, *([f"{group}={name}"] if name else [])], _config_dir(words))
            node: Any = OmegaConf.select(cfg, parent)
        except (HydraException, OmegaConfBaseException, UserError):
            continue
        is_node = isinstance(node, Mapping) or OmegaConf.is_dict(node)
        keys[name] = [str(key) for key in node] if is_node else []
    return keys


def _missing_value(error: Exception, text: str, words: Sequence[str]) -> str | None:
    found = re.search(r"[Mm]issing mandatory value: (\S+)", text)
    if not isinstance(error, MissingMandatoryValue) or not found:
        return None
    return f"{found[1]} is missing; give it with {found[1]}=..."


def _several_values(error: Exception, text: str, words: Sequence[str]) -> str | None:
    found = re.search(r"Ambiguous value for argument '([^']*)'", text)
    if not found:
        return None
    return f"'{found[1]}' names several values; use `dmlbench sweep`, or `dmlbench train -m`, to run them all"


def _not_parsed(error: Exception, text: str, words: Sequence[str]) -> str | None:
    if type(error).__name__ != "OverrideParseException":
        return None
    override = getattr(error, "override", None) or next((word for word in words if word in text), "")
    return f"'{override}' cannot be read; write KEY=VALUE, and quote a value with spaces or brackets: 'KEY=\"VALUE\"'"


def _no_yaml(error: Exception, text: str, words: Sequence[str]) -> str | None:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return None
    mark = error.problem_mark
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1} is no YAML: {error.problem}"


def _not_written(error: Exception, text: str, words: Sequence[str]) -> str | None:
    if not isinstance(error, OSError) or not error.filename:
        return None
    return f"{error.filename} cannot be used: {error.strerror}"


WORDINGS = (
    _no_such_file,
    _no_such_key,
    _missing_value,
    _several_values,
    _not_parsed,
    _no_yaml,
    _not_written,
)
