"""The overrides of the command line, as the rows of a table recorded them, in print."""

from __future__ import annotations

from collections.abc import Sequence

from dmlbench.config.schema import WITH_FROZEN_TRUNK, Scalar
from dmlbench.results.formatting import format_value
from dmlbench.results.row import Row
from dmlbench.tables.axis import Axis, column_name

# Overrides of the data set that change its images or their roles; others, such as its directory, do not.
_DATASET_OVERRIDES = ("dataset.make.", "dataset.split", "dataset.recall_at", "dataset.manifest", "dataset.on_unreadable")
# Groups of shared columns whose overrides are listed, except for the choices that every caption names.
_OVERRIDABLE = ("trunk", "protocol", "optimizer", "sampler")
_NAMED = ("trunk", "protocol")
BY_LOSS = Axis("loss")


def listed_overrides(rows: Sequence[Row], axis: Axis = BY_LOSS) -> tuple[list[str], list[str]]:
    """Return what was overridden on the command line, with the values that all rows have, such as `protocol.lr=0.1`.

    The values of the method are left out, because they are part of its name where they differ.

    Args:
        rows: Rows that agree in all shared columns that the axis does not own.
        axis: Axis of their table.

    Returns:
        What all rows override, and what only some of them override, of those that recorded it; sorted. Older rows also
        recorded overrides that changed nothing.
    """
    listed = [_listed(overrides, rows[0], axis) for overrides in {row.overrides for row in rows} if overrides is not None]
    by_all = set.intersection(*listed) if listed else set()
    return sorted(by_all), sorted(set().union(*listed) - by_all)


def overrides_clauses(rows: Sequence[Row], axis: Axis) -> list[str]:
    """Return the clauses of a caption about overrides.

    Args:
        rows: Rows that agree in all shared columns that the axis does not own.
        axis: Axis of their table.
    """
    by_all, by_some = listed_overrides(rows, axis)
    clauses = [f"overridden: {', '.join(by_all)}"] if by_all else []
    clauses += [f"overridden in some rows: {', '.join(by_some)}"] if by_some else []
    unknown = [row.overrides is None for row in rows]
    if any(unknown):
        clauses.append(f"{'' if all(unknown) else 'the '}overrides {'' if all(unknown) else 'of some rows '}were not recorded")
    return clauses


def overridden_columns(rows: Sequence[Row]) -> set[str]:
    """Return the columns whose values were overridden on the command line; choices that captions name are not included.

    Args:
        rows: Rows that agree in all shared columns.
    """
    typed = {one for overrides in {row.overrides for row in rows} for one in overrides or ()}
    return {column_name(_key(one)) for one in typed} - set(_NAMED) - _replaced(rows[0])


def _listed(overrides: Sequence[str], row: Row, axis: Axis) -> set[str]:
    listed, replaced = set(), _replaced(row)
    for override in overrides:
        key = _key(override)
        if key.startswith(_DATASET_OVERRIDES):
            listed.add(override.lstrip("+"))
            continue
        name = column_name(key)
        group = name.partition("_")[0]
        if group not in _OVERRIDABLE or name in _NAMED or name in replaced or axis.owns(name) or axis.owns(group):
            continue
        if name in row.columns:
            listed.add(f"{key}={_override_value(row[name])}")
        else:  # removed with `~`, or a value with several columns
            listed.add(f"{key} removed" if override.startswith("~") else override.lstrip("+"))
    return listed


def _replaced(row: Row) -> set[str]:
    """Return the columns whose configured values a frozen trunk replaces."""
    return {f"protocol_{name}" for name in WITH_FROZEN_TRUNK} if row.get("protocol_trunk_frozen") else set()


def _key(override: str) -> str:
    """Return the key of `key=value`, `+key=value` or `~key`."""
    return override.lstrip("~+").partition("=")[0]


def _override_value(value: Scalar) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else format_value(value)
