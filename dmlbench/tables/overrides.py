"""The overrides of the command line, as the rows of a table recorded them, in print."""

from __future__ import annotations

from collections.abc import Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import format_value
from dmlbench.results.row import Row
from dmlbench.tables.axis import Axis, column_name

# Overrides of the data set that change its images or their roles; others, such as its directory, do not.
_DATASET_OVERRIDES = ("dataset.make.", "dataset.split", "dataset.recall_at")
# Groups of shared columns whose overrides are listed, except for the choices that every caption names.
_OVERRIDABLE = ("trunk", "protocol", "optimizer", "sampler")
_NAMED = ("trunk", "protocol")
BY_LOSS = Axis("loss")


def listed_overrides(rows: Sequence[Row], axis: Axis = BY_LOSS) -> list[str]:
    """Return what was overridden on the command line, with the values that all rows have, such as `protocol.lr=0.1`.

    The values of the method are left out, because they are part of its name where they differ.

    Args:
        rows: Rows that agree in all shared columns that the axis does not own.
        axis: Axis of their table.
    """
    as_typed = {_key(one): one for row in rows for one in row.overrides or ()}
    listed = []
    for key, override in sorted(as_typed.items()):
        if key.startswith(_DATASET_OVERRIDES):
            listed.append(override.lstrip("+"))
            continue
        name = column_name(key)
        group = name.partition("_")[0]
        if group not in _OVERRIDABLE or name in _NAMED or axis.owns(name) or axis.owns(group):
            continue
        if name in rows[0].columns:
            listed.append(f"{key}={_override_value(rows[0][name])}")
        else:  # removed with `~`, or a value with several columns
            listed.append(f"{key} removed" if override.startswith("~") else override.lstrip("+"))
    return listed


def overridden_columns(rows: Sequence[Row]) -> set[str]:
    """Return the columns whose values were overridden on the command line; choices that captions name are not included.

    Args:
        rows: Rows that agree in all shared columns.
    """
    return {column_name(_key(one)) for row in rows for one in row.overrides or ()} - set(_NAMED)


def _key(override: str) -> str:
    """Return the key of `key=value`, `+key=value` or `~key`."""
    return override.lstrip("~+").partition("=")[0]


def _override_value(value: Scalar) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else format_value(value)
