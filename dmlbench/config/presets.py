"""Presets, a method and a protocol changed together: which there are, and the word that Hydra knows one by.

A preset is a file `preset/<name>/<loss>_<dataset>.yaml`. Hydra's defaults cannot choose it by the chosen loss and data set: a
file that is chosen so may not choose a trunk or an optimizer. So the word is spelt out before Hydra sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from dmlbench.config.files import conf_dir
from dmlbench.errors import UserError, suggest

GROUP = "preset@_global_"  # the key under which Hydra tells the choice
NONE = "none"


def expand_preset(words: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Replace `preset=NAME` by the file of that preset for the words' loss and data set.

    Args:
        words: as typed.
        config_dir: a folder of the user's own configurations, presets among them.

    Returns:
        The words; those without a preset as they are.

    Raises:
        UserError: there is no such preset, or none of that name for the loss and the data set.

    >>> expand_preset(["preset=paper", "loss=softtriple", "dataset=cars"])
    ['+preset@_global_=paper/softtriple_cars', 'loss=softtriple', 'dataset=cars']
    """
    named = [word.partition("=")[2] for word in words if word.startswith("preset=")]
    if not named:
        return list(words)
    name, rest = named[-1], [word for word in words if not word.startswith("preset=")]
    if name == NONE:
        return rest
    known = available(config_dir)
    if name not in known:
        raise UserError(f"preset={name} is not known{suggest(name, [NONE, *known])}")
    loss, dataset = (chosen(words, group) for group in ("loss", "dataset"))
    if "," in loss + dataset:
        raise UserError(
            f"preset={name} takes one loss and one data set at a time; `dmlbench sweep preset={name}` takes several losses"
        )
    if f"{loss}_{dataset}" not in known[name]:
        raise UserError(f"preset={name} has nothing for loss={loss} dataset={dataset}; {_instead(known[name], loss, dataset)}")
    return [f"+{GROUP}={name}/{loss}_{dataset}", *rest]


def _instead(files: Sequence[str], loss: str, dataset: str) -> str:
    """What a preset has for the data set, or for the loss, or at all."""
    losses = [file.removesuffix(f"_{dataset}") for file in files if file.endswith(f"_{dataset}")]
    datasets = [file.removeprefix(f"{loss}_") for file in files if file.startswith(f"{loss}_")]
    said = [f"for {dataset}: {', '.join(losses)}"] if losses else []
    said += [f"for {loss}: {', '.join(datasets)}"] if datasets else []
    return f"it has, {' and '.join(said)}" if said else f"it is for {', '.join(sorted({f.rpartition('_')[2] for f in files}))}"


def available(config_dir: str | None = None) -> dict[str, list[str]]:
    """Each preset's name, and what it has files for, as `<loss>_<dataset>`."""
    found: dict[str, set[str]] = {}
    for place in (conf_dir(), *([Path(config_dir)] if config_dir else [])):
        for file in (place / "preset").glob("*/*.yaml"):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {name: sorted(found[name]) for name in sorted(found)}


def chosen(words: Sequence[str], group: str) -> str:
    """What the words choose in a group, or what `config.yaml` does."""
    typed = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
    if typed:
        return typed[-1]
    defaults = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return str(next(entry[group] for entry in defaults if isinstance(entry, dict) and group in entry))
