"""Floor 3.5: the names of a table's lines in print, each unlike the others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.axes import ABSENT, Axis, method_columns
from dmlbench.measures import Column, column_of
from dmlbench.rows import Row, Scalar

_HEX_DIGEST = re.compile(r"[0-9a-f]{16,}")


def shown(value: Scalar) -> str:
    """A column's value in print: digests are cut to eight digits.

    >>> shown(None), shown(0.0001), shown("0123456789abcdef0123")
    ('none', '0.0001', '01234567')
    """
    text = "none" if value is None else str(value)
    return text[:8] if _HEX_DIGEST.fullmatch(text) else text


def labels_of(methods: Sequence[Row], axis: Axis) -> list[str]:
    """A name in print for each line; those that would share one are told apart by their differing values.

    Args:
        methods: one row of each line.
        axis: what its lines stand for.
    """
    return _methods(methods, axis.is_preset) if axis.is_loss or axis.is_preset else _values(methods, axis)


def recipes(labels: Sequence[str], rows: Sequence[Row], axis: Axis) -> list[str]:
    """For each line that is not made like the others, the columns in which they differ."""
    names = dict.fromkeys(name for row in rows for name in row.shared if axis.owns(name) and name != "preset")
    differing = [name for name in names if len({repr(row.shared.get(name, ABSENT)) for row in rows}) > 1]
    said = []
    for label, row in sorted(zip(labels, rows, strict=True), key=lambda pair: pair[0]):
        twins = [other for other in rows if other["loss"] == row["loss"]]
        values = [f"{name}={shown(row.shared.get(name, ABSENT))}" for name in differing]
        if told := [*values, *_own_values(row, twins)]:
            said.append(f"{label}: {', '.join(told)}")
    return said


def _methods(methods: Sequence[Row], recipe: bool) -> list[str]:
    labels = [str(row.get("loss_label") or row["loss"]) + (f", {_made_by(row)}" if recipe else "") for row in methods]
    told_apart = []
    for row, label in zip(methods, labels, strict=True):
        twins = [other for other, name in zip(methods, labels, strict=True) if name == label]
        values = _own_values(row, twins)
        told_apart.append(f"{label} ({', '.join(values)})" if values else label)
    digest = "fingerprint" if recipe else "method_digest"
    return [
        label if told_apart.count(label) == 1 else f"{label} (digest {shown(row[digest])})"
        for row, label in zip(methods, told_apart, strict=True)
    ]


def _values(rows: Sequence[Row], axis: Axis) -> list[str]:
    """A name in print for each value of an axis; those that share one are told apart by what else the axis owns."""
    labels = [axis.label(row) for row in rows]
    told_apart = []
    for row, label in zip(rows, labels, strict=True):
        twins = [other for other, shared in zip(rows, labels, strict=True) if shared == label]
        owned = dict.fromkeys(name for other in twins for name in (*other.shared, *method_columns(other)) if axis.owns(name))
        differing = [name for name in owned if len({repr(other.get(name, ABSENT)) for other in twins}) > 1]
        values = [f"{name}={shown(row.get(name, ABSENT))}" for name in differing]
        told_apart.append(f"{label} ({', '.join(values)})" if values else label)
    return told_apart


def _made_by(row: Row) -> str:
    """What a line of `vary=preset` is: a preset, or the fixed protocol that every loss had alike; and whether it was tuned."""
    preset = row.get("preset") or "none"
    made = f"fixed protocol {row['protocol']}" if preset == "none" else f"preset {preset}"
    return f"{made}, tuned" if row.get("tuning_trials") else made


def _own_values(row: Row, twins: Sequence[Row]) -> list[str]:
    """The method's values in which it differs from others of the same loss, as `la=10`."""
    return [
        text
        for column in dict.fromkeys(name for twin in twins for name in method_columns(twin))
        if len({repr(other.get(column, ABSENT)) for other in twins}) > 1 and (text := _assignment(row, column))
    ]


def _assignment(row: Row, column: str) -> str:
    """`neg_margin=0.5` for the column loss_make_neg_margin, or nothing where the row lacks it."""
    if column not in row.columns:
        return ""
    value = shown(row[column])
    return value if column == "loss" else f"{re.sub('^loss_(make_)?', '', column)}={value}"


def metric_label(metric: str) -> str:
    """A metric's name in print."""
    return measured(metric).label


def measured(metric: str) -> Column:
    """What a metric's column holds."""
    found = column_of(metric)
    assert found is not None  # rows.is_metric let it pass
    return found
