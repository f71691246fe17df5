"""Sentences about unknown keys of the configuration, which suggest the full key that the user may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dmlbench.config.compose import TOP_KEYS, compose
from dmlbench.config.files import conf_dir
from dmlbench.config.reserved_arguments import SET_BY_TRAINING
from dmlbench.errors import UserError

# The order in which groups are searched for a key that was typed without its group, such as `epochs`.
_SEARCHED = ("protocol", "loss", "dataset", "trunk", "tuning", "optimizer", "sampler", "paths")
# Nodes that hold the arguments of a constructor, of which a file may leave out some.
_CONSTRUCTORS = re.compile(r"(dataset|trunk|loss)\.(make|miner)\b|optimizer\b|sampler\b")
_CHOICE = re.compile(r"(dataset|trunk|loss|sampler|optimizer|protocol)=([\w,-]+)")


def describe_unknown_key(key: str, overrides: Sequence[str], config_dir: Path | None) -> str:
    """Return a sentence that says that a key is not known, and which one the user may have meant.

    Args:
        key: Dotted key, such as `loss.make.margn`.
        overrides: What was composed, among it the override of the key.
        config_dir: Directory of the user's own configuration files.
    """
    if key in SET_BY_TRAINING:
        return f"{key} has no effect: {SET_BY_TRAINING[key]}"
    if key in TOP_KEYS:  # `loss={...}`
        return f"{key} needs the name of a file, which `dmlbench list` prints; set single values with {key}.KEY=..."
    parent, _, last = key.rpartition(".")
    group = parent.partition(".")[0]
    chosen = _chosen_files(group, overrides, config_dir)
    keys = {name: found for name, found in _keys(group, chosen, overrides, config_dir).items() if key not in found}
    lacking = f" to {', '.join(f'{group}={name}' for name in keys)}" if len(chosen) > 1 and keys else ""
    known = list(dict.fromkeys(one for found in keys.values() for one in found))
    siblings = [one for one in known if one.rpartition(".")[0] == parent] if parent else list(TOP_KEYS)
    if similar := _similar(last, siblings) or _similar_elsewhere(last, parent, known):
        return f"{key} is not known{lacking}; did you mean '{similar}'?"
    names = sorted(one.rpartition(".")[2] for one in siblings)
    sentence = f"{key} is not known{lacking}" + (f"; known: {', '.join(names)}" if names else "")
    if _CONSTRUCTORS.match(parent):
        sentence += f" (to add an argument that its file leaves out, use +{key}=...)"
    return sentence


def _similar(name: str, keys: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The first key whose last part is most similar to a name."""
    by_name = {one.rpartition(".")[2]: one for one in reversed(keys)}
    near = difflib.get_close_matches(name, by_name, n=1, cutoff=cutoff)
    return by_name[near[0]] if near else None


def _similar_elsewhere(name: str, parent: str, known: Sequence[str]) -> str | None:
    """The key that was meant by `margin` or `loss.margin`, such as `loss.make.margin`; nothing for a longer key."""
    if "." in parent:
        return None
    keys = sorted(
        (one for one in known if one.partition(".")[0] in _SEARCHED and ".search" not in one),
        key=lambda one: (_SEARCHED.index(one.partition(".")[0]), one.count(".")),
    )
    if not parent:
        return _similar(name, keys, cutoff=0.8)
    own = [one for one in keys if one.startswith(f"{parent}.")]
    return _similar(name, own) or next((one for one in keys if one.rpartition(".")[2] == name), None)


def _chosen_files(group: str, overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """The files of a group that the overrides choose, or those that their sweep does."""
    choices = {found[1]: found[2] for one in overrides if (found := _CHOICE.fullmatch(one))}
    if group in choices:
        return choices[group].split(",")
    sweep = next((one.partition("=")[2] for one in overrides if one.startswith("sweep=")), None)
    for folder in (conf_dir(), *([config_dir] if config_dir else [])):
        file = folder / "sweep" / f"{sweep}.yaml"
        if file.is_file():
            swept = OmegaConf.select(OmegaConf.load(file), f"hydra.sweeper.params.{group}")
            return str(swept).split(",") if swept else []
    return []


def _keys(group: str, chosen: Sequence[str], overrides: Sequence[str], config_dir: Path | None) -> dict[str, list[str]]:
    """All keys of the configuration under the same choice of files, for each chosen file of a group."""
    matches = [found for one in overrides if (found := _CHOICE.fullmatch(one)) and found[1] != group]
    others = [f"{found[1]}={found[2].split(',')[0]}" for found in matches]
    keys: dict[str, list[str]] = {}
    for name in chosen or [""]:
        with suppress(HydraException, OmegaConfBaseException, UserError):
            composed = compose([*others, *([f"{group}={name}"] if name else [])], config_dir)
            keys[name] = list(_dotted("", OmegaConf.to_container(composed.cfg, resolve=False)))
    return keys


def _dotted(prefix: str, values: Any) -> Iterator[str]:
    """Every key of nested mappings, as a dotted key."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield f"{prefix}{key}"
            yield from _dotted(f"{prefix}{key}.", value)
