"""Names of the rows of a table in print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dmlbench.results.formatting import format_value
from dmlbench.results.row import Row
from dmlbench.tables.axis import ABSENT, Axis


def row_labels(methods: Sequence[Row], axis: Axis) -> list[str]:
    """Return a unique name in print for each row of a table; equal names are extended by the values that differ.

    Args:
        methods: One result row for each row of the table.
        axis: Axis of the table.
    """
    return _method_labels(methods, axis.is_preset) if axis.is_loss or axis.is_preset else _value_labels(methods, axis)


def recipe_notes(labels: Sequence[str], rows: Sequence[Row], axis: Axis) -> list[str]:
    """Return, for each row of a table of presets, the columns in which it differs from the others.

    Args:
        labels: Names of the rows in print.
        rows: One result row for each row of the table.
        axis: Axis of the table.
    """
    names = dict.fromkeys(name for row in rows for name in row.shared if axis.owns(name) and name != "preset")
    differing = [name for name in names if len({repr(row.shared.get(name, ABSENT)) for row in rows}) > 1]
    notes = []
    for label, row in sorted(zip(labels, rows, strict=True), key=lambda pair: pair[0]):
        same_loss = [other for other in rows if other["loss"] == row["loss"]]
        values = [f"{name}={format_value(row.shared.get(name, ABSENT))}" for name in differing]
        if listed := [*values, *_differing_values(row, same_loss)]:
            notes.append(f"{label}: {', '.join(listed)}")
    return notes


def _method_labels(methods: Sequence[Row], by_recipe: bool) -> list[str]:
    labels = [str(row.get("loss_label") or row["loss"]) + (f", {_recipe(row)}" if by_recipe else "") for row in methods]
    unique = []
    for row, label in zip(methods, labels, strict=True):
        same_label = [other for other, name in zip(methods, labels, strict=True) if name == label]
        values = _differing_values(row, same_label)
        unique.append(f"{label} ({', '.join(values)})" if values else label)
    digest = "fingerprint" if by_recipe else "method_digest"
    return [
        label if unique.count(label) == 1 else f"{label} (digest {format_value(row[digest])})"
        for row, label in zip(methods, unique, strict=True)
    ]


def _value_labels(rows: Sequence[Row], axis: Axis) -> list[str]:
    """Return the names of the values of an axis; equal names are extended by other columns of the axis that differ."""
    labels = [axis.label(row) for row in rows]
    unique = []
    for row, label in zip(rows, labels, strict=True):
        same_label = [other for other, name in zip(rows, labels, strict=True) if name == label]
        owned = dict.fromkeys(name for other in same_label for name in (*other.shared, *other.method) if axis.owns(name))
        differing = [name for name in owned if len({repr(other.get(name, ABSENT)) for other in same_label}) > 1]
        values = [f"{name}={format_value(row.get(name, ABSENT))}" for name in differing]
        unique.append(f"{label} ({', '.join(values)})" if values else label)
    return unique


def _recipe(row: Row) -> str:
    """Return the preset of a row, or its fixed protocol, and whether the method was tuned."""
    preset = row.get("preset") or "none"
    recipe = f"fixed protocol {row['protocol']}" if preset == "none" else f"preset {preset}"
    return f"{recipe}, tuned" if row.get("tuning_trials") else recipe


def _differing_values(row: Row, same_loss: Iterable[Row]) -> list[str]:
    """Return the hyper-parameters in which a row differs from others of the same loss, as `la=10`."""
    others = list(same_loss)
    names = dict.fromkeys(name for other in others for name in other.method)
    return [
        text
        for name in names
        if len({repr(other.get(name, ABSENT)) for other in others}) > 1 and (text := _assignment(row, name))
    ]


def _assignment(row: Row, name: str) -> str:
    """Return `neg_margin=0.5` for the column loss_make_neg_margin; empty if the row does not have it."""
    if name not in row.columns:
        return ""
    value = format_value(row[name])
    return value if name == "loss" else f"{re.sub('^loss_(make_)?', '', name)}={value}"
