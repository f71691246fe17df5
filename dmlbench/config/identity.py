"""Flat columns of nested values, and their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dmlbench.config.schema import Scalar, row_fields

# Constructors that configurations name, under the path of schema 1. Digests use the old path, so that moving code does not
# change the identity of a run; rows are migrated to the new path, and old files of users keep working.
MOVED_TARGETS = {
    "dmlbench.samplers.by_kind": "dmlbench.data.samplers.by_kind",
    "dmlbench.samplers.m_per_class": "dmlbench.data.samplers.m_per_class",
    "dmlbench.samplers.shuffle": "dmlbench.data.samplers.shuffle",
    "dmlbench.trunks.bn_inception.BNInception": "dmlbench.models.backbones.bn_inception.BNInception",
    "dmlbench.trunks.convnet.ConvNet": "dmlbench.models.backbones.convnet.ConvNet",
    "dmlbench.trunks.from_timm.timm_trunk": "dmlbench.models.backbones.timm_backbone.timm_trunk",
    "dmlbench.trunks.from_torchvision.TorchvisionTrunk": "dmlbench.models.backbones.torchvision_backbone.TorchvisionTrunk",
    "dmlbench.data.cars.cars": "dmlbench.data.datasets.cars.cars",
    "dmlbench.data.cub.cub": "dmlbench.data.datasets.cub.cub",
    "dmlbench.data.digits.digits": "dmlbench.data.datasets.digits.digits",
    "dmlbench.data.folder.folder": "dmlbench.data.datasets.image_folder.folder",
    "dmlbench.data.inshop.inshop": "dmlbench.data.datasets.inshop.inshop",
    "dmlbench.data.sop.sop": "dmlbench.data.datasets.sop.sop",
    "dmlbench.data.synthetic.synthetic": "dmlbench.data.datasets.synthetic.synthetic",
}
_FORMER_TARGETS = {new: old for old, new in MOVED_TARGETS.items()}


def current_target(target: str) -> str:
    """Return the current dotted path of a constructor.

    Args:
        target: Its current or its former dotted path.
    """
    return MOVED_TARGETS.get(target, target)


def flatten(prefix: str, values: Any) -> Iterator[tuple[str, Scalar]]:
    """Turn nested values into flat columns.

    Args:
        prefix: Start of each column's name.
        values: A mapping, whose keys are joined to the prefix with underscores; a list, which becomes its JSON text; or a
            scalar.

    Yields:
        Column name and value. Text that could be taken for the JSON text of something else is quoted. An empty mapping is the
        text `{}` inside another mapping, and no column by itself.

    >>> dict(flatten("loss", {"make": {"_target_": "a.B", "la": 20}, "ks": [1, 2]}))
    {'loss_make_target': 'a.B', 'loss_make_la': 20, 'loss_ks': '[1, 2]'}
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            name = f"{prefix}_{str(key).strip('_')}"
            if isinstance(value, Mapping) and not value:
                yield name, "{}"
            yield from flatten(name, value)
    elif isinstance(values, list | tuple) or (isinstance(values, str) and values.startswith(("[", "{", '"'))):
        yield prefix, json.dumps(values)
    else:
        yield prefix, values


def columns_of(group: str, configuration: Any) -> dict[str, Scalar]:
    """Return the columns of a configuration: all its fields, except for those that are declared with `in_row=False`.

    Args:
        group: Start of each column's name, such as `protocol`.
        configuration: An instance of a class of `schema`.
    """
    fields = row_fields(type(configuration))
    return {name: value for one in fields for name, value in flatten(f"{group}_{one.name}", getattr(configuration, one.name))}


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of a mapping's canonical JSON text.

    The order of keys does not matter, 1 and 1.0 are the same number, and a moved constructor has its former path.

    Args:
        values: Nested mappings and lists of scalars.
    """
    return hashlib.sha256(json.dumps(_canonical(values), sort_keys=True).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, str):
        return _FORMER_TARGETS.get(value, value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
