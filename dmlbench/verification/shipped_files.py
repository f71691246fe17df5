"""Values of the configuration files of dmlbench, without Hydra: what a file sets, and what it inherits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from dmlbench.config.files import conf_dir
from dmlbench.config.schema import Method, Protocol, Trunk, defaults, row_fields
from dmlbench.errors import UserError

_CLASSES: Mapping[str, type] = {"protocol": Protocol, "trunk": Trunk, "loss": Method}
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Value(NamedTuple):
    """A value of a configuration file: its dotted key, its column, and a scalar, a list, or text with references."""

    key: str
    column: str
    value: Any


@lru_cache(256)
def shipped(name: str) -> tuple[str, Mapping[str, Any]]:
    """Return the digest and the values of a configuration file of dmlbench; empty if there is none.

    Args:
        name: File as `group/name`. It may come from anywhere.
    """
    if name not in _names():
        return "", _NOTHING
    content = (conf_dir() / f"{name}.yaml").read_bytes()
    values = yaml.load(content, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return hashlib.sha256(content).hexdigest(), values if isinstance(values, dict) else _NOTHING


@cache
def _names() -> frozenset[str]:
    try:
        return frozenset(str(file.relative_to(conf_dir()).with_suffix("")) for file in conf_dir().glob("*/**/*.yaml"))
    except UserError:
        return frozenset()


def _merged(name: str, files: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the values of a file with those of the files that it inherits.

    Args:
        name: File as `group/name`.
        files: Recorded digest of each file.

    Returns:
        Key to value; None if one of them is not that of dmlbench.
    """
    digest, values = shipped(name)
    if not digest or files.get(name) != digest:
        return None
    found: dict[str, Any] = {}
    group = name.rpartition("/")[0]
    for one in values.get("defaults", ()):
        if isinstance(one, str) and one != "_self_":
            inherited = _merged(f"{group}/{one}", files)
            if inherited is None:
                return None
            found |= inherited
    return found | {key: value for key, value in values.items() if key != "defaults"}


@lru_cache(256)
def columns(name: str, digests: tuple[tuple[str, Any], ...]) -> tuple[Value, ...] | None:
    """Return the values that a row has with a chosen file, the defaults of its group included.

    Args:
        name: File as `group/name`.
        digests: File and recorded digest of all files.

    Returns:
        The values; None if the file or one that it inherits is not that of dmlbench.
    """
    values = _merged(name, dict(digests))
    if values is None:
        return None
    group = name.partition("/")[0]
    if group in _CLASSES:
        names = {one.name for one in row_fields(_CLASSES[group])}
        values = {key: value for key, value in {**defaults(_CLASSES[group]), **values}.items() if key in names}
    return tuple(_flat(group, group, values))


@lru_cache(256)
def set_by_presets(digests: tuple[tuple[str, Any], ...]) -> tuple[Value, ...] | None:
    """Return the values that presets set in other files.

    Args:
        digests: File and recorded digest of all files.

    Returns:
        The values; None if a preset is not that of dmlbench, or if a sweep is not, which may set values too.
    """
    found: list[Value] = []
    for name, digest in digests:
        if name.startswith("sweep/") and shipped(name)[0] != digest:
            return None
        if name.startswith("preset/"):
            values = _merged(name, dict(digests))
            if values is None:
                return None
            found += [one for group, each in values.items() for one in _flat(group, group, each)]
    return tuple(found)


def _flat(key: str, column: str, value: Any) -> Iterator[Value]:
    if isinstance(value, dict) and value:
        for name, one in value.items():
            yield from _flat(f"{key}.{name}", f"{column}_{str(name).strip('_')}", one)
    else:
        yield Value(key, column, value)
