"""Floor 6: Hydra's and OmegaConf's errors as one sentence that names the value, the place, and what would have worked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

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
    sentence = f"{key} is not known{suggest(last, _keys(parent, words))}"
    if re.match(r"(loss|trunk|sampler|optimizer|dataset)\b", parent) and "did you mean" not in sentence:
        sentence += f" (an argument that its file leaves out is added with +{key}=...)"
    return sentence


def _keys(parent: str, words: Sequence[str]) -> list[str]:
    """The keys that a node has under the same choice of files."""
    if not parent:
        return list(TOP)
    choices = [word for word in words if re.fullmatch(r"(dataset|trunk|loss|sampler|optimizer|protocol)=[\w-]+", word)]
    try:
        cfg, _ = compose(choices)
        node: Any = OmegaConf.select(cfg, parent)
    except (HydraException, OmegaConfBaseException, UserError):
        return []
    return [str(key) for key in node] if isinstance(node, Mapping) or OmegaConf.is_dict(node) else []


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
