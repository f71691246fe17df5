"""Floor 3: in which values a row differs from the files of `conf/` that it names: what its protocol's name does not tell."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from dmlbench.configs import conf_dir
from dmlbench.plan import Scalar, flatten, resize_of
from dmlbench.rows import Row

LEFT_OUT = "left out"
# What `Protocol.resolved` sets where the trunk is frozen.
FROZEN = ("protocol_train_crop", "protocol_flip", "protocol_freeze_batch_norm")
# Columns of a trunk, a sampler or an optimizer that stand in no file, or are no value of it.
_NO_VALUES = ("source_sha256", "weights_sha256", "weights", "label", "published")


def deviations(row: Row, group: str) -> dict[str, Scalar]:
    """Tell in what a row differs from its file of one group.

    Args:
        row: whose shared columns are compared.
        group: `protocol`, `optimizer`, `sampler` or `trunk`.

    Returns:
        Column to the row's value, or to `LEFT_OUT`; empty where nothing differs or the file is none of ours.
    """
    columns = _columns(group, str(row.get(group)))
    if not columns:
        return {}
    found = {name: row[name] for name, value in columns.items() if name in row.columns and _differs(row, name, value)}
    if f"{group}_target" in row.columns or f"{group}_make_target" in row.columns:  # all that its constructor was given
        given = f"{group}_make_" if group == "trunk" else f"{group}_"
        extra = {name: value for name, value in row.columns.items() if name.startswith(given) and name not in columns}
        found |= {name: value for name, value in extra.items() if name.removeprefix(f"{group}_") not in _NO_VALUES}
        found |= {name: LEFT_OUT for name in columns if name.startswith(given) and name not in row.columns}
    return found


def sampler_of(protocol: str) -> str | None:
    """The sampler that a protocol's file chooses; None where it chooses none, or is none of ours."""
    return next((name for file in _lineage("protocol", protocol) if (name := _chosen_sampler(file))), None)


def _chosen_sampler(file: Mapping[str, Any]) -> str | None:
    entries = (entry for entry in file.get("defaults", ()) if isinstance(entry, dict))
    return next((str(entry[key]) for entry in entries for key in entry if key.startswith("override /sampler@")), None)


def _differs(row: Row, column: str, value: Scalar) -> bool:
    has = row[column]
    if isinstance(value, str) and "${" in value:  # a row keeps the text of what leads to its method, and no other
        return bool(re.search(r"\$\{\.*loss\.", value)) and has != value
    if column == "protocol_resize_px" and value is None:
        crop = row.get("protocol_image_px")
        return isinstance(crop, int) and has != resize_of(crop)
    return bool(_plain(has) != _plain(value))


def _plain(value: Scalar) -> Any:
    """A value, or the list that its text stands for, so that [1, 2] and [1.0, 2.0] are equal."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


@functools.cache
def _columns(group: str, name: str) -> Mapping[str, Scalar]:
    """What rows of a file have by default, by column; empty where the file is none of ours."""
    lineage = _lineage(group, name)
    if not lineage:
        return {}
    values: dict[str, Any] = {}
    for file in (_read("config").get(group, {}), *reversed(lineage)):
        values |= file
    values = {key: value for key, value in values.items() if key not in ("defaults", *_NO_VALUES)}
    return dict(flatten(group, values))


def _lineage(group: str, name: str) -> list[Mapping[str, Any]]:
    """A file, and those of its group that it takes values from, nearest first; empty where it is none of ours."""
    if not re.fullmatch(r"[\w-]+", name):
        return []
    file = _read(f"{group}/{name}")
    parents = [entry for entry in file.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    return [file, *(one for parent in reversed(parents) for one in _lineage(group, parent))] if file else []


@functools.cache
def _read(name: str) -> Mapping[str, Any]:
    """A file of `conf/` by its path without the ending; empty where there is none."""
    file = conf_dir() / f"{name}.yaml"
    found = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    return found if isinstance(found, dict) else {}
