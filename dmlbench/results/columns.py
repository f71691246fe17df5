"""Look up the declaration of a column, digest what identifies a run, and bring rows of older versions up to date."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from dmlbench.config.identity import MOVED_TARGETS, digest, flatten
from dmlbench.config.schema import UNSET, Scalar
from dmlbench.results.column_specs import COLUMNS, Column, Role
from dmlbench.results.metric_specs import parse_metric

SCHEMA_VERSION = max(one.since for one in COLUMNS)
REQUIRED = {one.name: one.kind for one in COLUMNS if one.kind is not None}
TABLE_COSTS = tuple(one for one in COLUMNS if one.in_tables)
# The columns that name a chosen configuration file, each with the columns that it brings.
CHOICES = {one.name: one for one in COLUMNS if one.brings}

_EXACT = {one.name: one for one in COLUMNS if not one.is_family}
_FAMILIES = sorted((one for one in COLUMNS if one.is_family), key=lambda one: -len(one.name))
# Columns that older rows lack, with the value that describes them.
_LATER = {one.name: one for one in COLUMNS if one.since > 1}


@lru_cache(8192)
def column(name: str) -> Column:
    """Look up the declaration of a column.

    Args:
        name: Name of the column in a row.

    Returns:
        Its declaration under its own name. A column that nothing declares is a `result`.
    """
    if name in _EXACT:
        return _EXACT[name]
    if (metric := parse_metric(name)) is not None:
        role: Role = "result" if metric.spec.kind == "diagnostic" else "metric"
        return Column(name, role, metric.spec.definition, metric.label, evaluated=True)
    for family in _FAMILIES:
        if _pattern(family.name).fullmatch(name):
            return dataclasses.replace(family, name=name)
    return Column(name, "result", "Not declared.")


@cache
def _pattern(family: str) -> re.Pattern[str]:
    return re.compile(re.escape(family).replace(r"\*", ".+"))


def value_range(name: str) -> tuple[float, float]:
    """The smallest and the largest value that a column may hold: a metric's own range, else any number."""
    metric = parse_metric(name)
    return (metric.spec.low, metric.spec.high) if metric else (-math.inf, math.inf)


def fingerprint(shared: Mapping[str, Scalar]) -> str:
    """The identity of everything but the method and the seed.

    Args:
        shared: All shared columns of a run.

    Returns:
        8 hex digits, equal exactly for rows that may be compared.
    """
    return identity_digest(shared)


def method_digest(columns: Mapping[str, Scalar]) -> str:
    """The identity of a method.

    Args:
        columns: Its `loss_*` columns.

    Returns:
        8 hex digits that depend on every hyper-parameter.
    """
    return identity_digest(columns)


def run_id(fingerprint: str, method_digest: str, seed: Scalar) -> str:
    """The name of a run, and of its directory."""
    return f"{fingerprint}-{method_digest}-{seed}"


def identity_digest(columns: Mapping[str, Any]) -> str:
    """A digest that does not change when columns are added with the value that describes older runs."""
    later = {name: value for one in _LATER.values() if one.before is not UNSET for name, value in flatten(one.name, one.before)}
    kept = {name: value for name, value in columns.items() if not (name in later and later[name] == value)}
    return digest(kept)[:8]


def migrated(columns: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Bring the columns of a row that an older version wrote up to date.

    Moved constructors get their new path. Columns that did not exist then get the value that describes that time, if the row
    has other columns of their group.

    Args:
        columns: As read.

    Returns:
        The columns under today's schema. `schema_version` stays as written.
    """
    found = {name: MOVED_TARGETS.get(value, value) if isinstance(value, str) else value for name, value in columns.items()}
    written = columns.get("schema_version")
    for one in _LATER.values():
        if isinstance(written, int) and written < one.since and one.before is not UNSET and _belongs(one.name, columns):
            for name, value in flatten(one.name, one.before):
                found.setdefault(name, value)
    return found


def _belongs(name: str, columns: Mapping[str, Scalar]) -> bool:
    """Whether a row has the group of a column: an external row has no protocol columns, an untuned one no tuning columns."""
    group = next((one.brings for one in CHOICES.values() if name.startswith(one.brings)), name)
    return any(other.startswith(group) for other in columns)
