"""Presets: published settings of a method and its protocol, one file per loss and data set.

The file is `preset/<name>/<loss>_<dataset>.yaml`. The defaults list of Hydra cannot choose it from the loss and the data set,
because a file chosen in this way could not choose a trunk or an optimizer. Therefore `preset=NAME` is expanded before Hydra
composes the overrides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from dmlbench.config.files import conf_dir
from dmlbench.errors import UserError, suggest

GROUP = "preset@_global_"  # key of the preset in the choices of Hydra
NONE = "none"


def expand_preset(overrides: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Replace `preset=NAME` by the file of that preset for the chosen loss and data set.

    Args:
        overrides: As typed.
        config_dir: Directory of the user's own configuration files, which may contain presets.

    Returns:
        The overrides. Without a preset, they are returned unchanged.

    Raises:
        UserError: There is no such preset, or it has no file for the loss and the data set.

    >>> expand_preset(["preset=paper", "loss=softtriple", "dataset=cars"])
    ['+preset@_global_=paper/softtriple_cars', 'loss=softtriple', 'dataset=cars']
    """
    names = [one.partition("=")[2] for one in overrides if one.startswith("preset=")]
    if not names:
        return list(overrides)
    name, rest = names[-1], [one for one in overrides if not one.startswith("preset=")]
    if name == NONE:
        return rest
    files = available(config_dir)
    if name not in files:
        raise UserError(f"preset={name} is not known{suggest(name, [NONE, *files])}")
    loss, dataset = (chosen(overrides, group) for group in ("loss", "dataset"))
    if "," in loss + dataset:
        raise UserError(
            f"preset={name} needs one loss and one data set at a time; `dmlbench sweep preset={name}` accepts several losses"
        )
    if f"{loss}_{dataset}" not in files[name]:
        raise UserError(f"preset={name} has no file for loss={loss} dataset={dataset}; {_offer(files[name], loss, dataset)}")
    return [f"+{GROUP}={name}/{loss}_{dataset}", *rest]


def _offer(files: Sequence[str], loss: str, dataset: str) -> str:
    """What a preset offers for the data set and for the loss; for neither, its data sets."""
    losses = [file.removesuffix(f"_{dataset}") for file in files if file.endswith(f"_{dataset}")]
    datasets = [file.removeprefix(f"{loss}_") for file in files if file.startswith(f"{loss}_")]
    offers = [f"for dataset={dataset} it has loss={', '.join(losses)}"] if losses else []
    offers += [f"for loss={loss} it has dataset={', '.join(datasets)}"] if datasets else []
    return " and ".join(offers) if offers else f"it is for dataset={', '.join(sorted({f.rpartition('_')[2] for f in files}))}"


def available(config_dir: str | None = None) -> dict[str, list[str]]:
    """List all presets.

    Args:
        config_dir: Directory of the user's own configuration files.

    Returns:
        Name of each preset to the loss and data set of its files, as `<loss>_<dataset>`; both sorted.
    """
    found: dict[str, set[str]] = {}
    for directory in (conf_dir(), *([Path(config_dir)] if config_dir else [])):
        for file in (directory / "preset").glob("*/*.yaml"):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {name: sorted(found[name]) for name in sorted(found)}


def chosen(overrides: Sequence[str], group: str) -> str:
    """Return the file that the overrides choose in a group, or else the one that `config.yaml` chooses.

    Args:
        overrides: As typed.
        group: Group of configuration files, such as `loss`.
    """
    values = [one.partition("=")[2] for one in overrides if one.startswith(f"{group}=")]
    if values:
        return values[-1]
    defaults = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return str(next(entry[group] for entry in defaults if isinstance(entry, dict) and group in entry))
