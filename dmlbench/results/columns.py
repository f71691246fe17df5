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
REQUIRED = {one.name: one.required_type for one in COLUMNS if one.required_type is not None}
TABLE_COSTS = tuple(one for one in COLUMNS if one.in_tables)
# The columns that name a chosen configuration file.
CHOICES = {one.name: one for one in COLUMNS if one.brings}

_EXACT = {one.name: one for one in COLUMNS if not one.is_family}
_FAMILIES = sorted((one for one in COLUMNS if one.is_family), key=lambda one: -len(one.name))
# Columns that a later version added, and that older rows therefore lack.
_LATER = {one.name: one for one in COLUMNS if one.since > 1}


@lru_cache(8192)
def column(name: str) -> Column:
    """Look up the declaration of a column.

    Args:
        name: Name of the column in a row.

    Returns:
        Its declaration, under the given name also if a family declares it. An undeclared column is a `result`.
    """
    if name in _EXACT:
        return _EXACT[name]
    if (metric := parse_metric(name)) is not None:
        role: Role = "result" if metric.spec.kind == "diagnostic" else "metric"
        return Column(name, role, metric.spec.definition, metric.label, evaluated=metric.spec.kind != "attributes")
    for family in _FAMILIES:
        if _pattern(family.name).fullmatch(name):
            return dataclasses.replace(family, name=name)
    return Column(name, "result", "Not declared.")


@cache
def _pattern(family: str) -> re.Pattern[str]:
    return re.compile(re.escape(family).replace(r"\*", ".+"))


def value_range(name: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a column: the range of its metric, or any number.

    Args:
        name: Name of the column.
    """
    metric = parse_metric(name)
    return (metric.spec.low, metric.spec.high) if metric else (-math.inf, math.inf)


def fingerprint(shared: Mapping[str, Scalar]) -> str:
    """Return the digest that identifies everything except the method and the seed.

    Args:
        shared: All shared columns of a run.

    Returns:
        8 hex digits, which are equal for rows that may be compared.
    """
    return identity_digest(shared)


def method_digest(columns: Mapping[str, Scalar]) -> str:
    """Return the digest that identifies a method.

    Args:
        columns: Its `loss_*` columns.

    Returns:
        8 hex digits that depend on every hyper-parameter.
    """
    return identity_digest(columns)


def run_id(fingerprint: str, method_digest: str, seed: Scalar) -> str:
    """Return the name of a run, which is also the name of its directory.

    Args:
        fingerprint: What `fingerprint` returned.
        method_digest: What `method_digest` returned.
        seed: Seed of the run.
    """
    return f"{fingerprint}-{method_digest}-{seed}"


def identity_digest(columns: Mapping[str, Any]) -> str:
    """Return a digest that ignores columns of a later version if they have the value that describes older rows.

    Args:
        columns: Column name to value.

    Returns:
        8 hex digits. They stay the same if a new column is added with its declared `before` value.
    """
    later = {name: value for one in _LATER.values() if one.before is not UNSET for name, value in flatten(one.name, one.before)}
    kept = {name: value for name, value in columns.items() if not (name in later and later[name] == value)}
    return digest(kept)[:8]


def migrated(columns: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    """Convert the columns of a row to the current schema, whatever version wrote them.

    Constructors that have moved get their new path: an older version may have written the row, or a file of the user may name
    the former path. Columns that did not exist yet get their declared `before` value: shared columns and those of the method
    in every row without them, because they decide what may be compared; others in rows of an older version. A column that
    belongs to a group is added only if the row has another column of the group.

    Args:
        columns: Columns as read from the file.

    Returns:
        Columns of the current schema, except for `schema_version`, which does not change.
    """
    targets, added = _migration(columns.get("schema_version"), tuple(columns))
    moved = {name: MOVED_TARGETS[former] for name in targets if (former := columns[name]) in MOVED_TARGETS}
    return {**columns, **moved, **added} if moved or added else columns


@lru_cache(256)
def _migration(written: Scalar, names: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, Scalar]]:
    """Return the columns that contain constructors, and the values of later columns that are missing.

    The cache helps because thousands of rows have the same columns.
    """
    targets = tuple(name for name in names if name.endswith("target"))
    groups = {"", *(column(name).group for name in names)}
    later = [one for one in _LATER.values() if one.before is not UNSET and one.group in groups]
    needed = [one for one in later if one.role in ("shared", "method") or (isinstance(written, int) and written < one.since)]
    return targets, {name: value for one in needed for name, value in flatten(one.name, one.before) if name not in names}
