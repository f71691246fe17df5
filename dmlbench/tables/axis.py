"""The axis of a table: what may differ between its rows, and the names of the rows in print.

`loss` compares methods; all shared columns are equal. Any other axis takes one thing out of what must be equal and puts the
method in: `trunk` compares trunks, `sampler` samplers, `loss.make.alpha` values of a parameter, each for one loss at a time.
With `tuning.trials`, the hyper-parameters that each budget found follow it. `preset` owns several things at once, so its rows
are not comparable and none is marked as best.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError, suggest
from dmlbench.results.columns import column
from dmlbench.results.formatting import format_value
from dmlbench.results.row import Row

# What a preset sets: these may differ between two rows, and the notes say how.
OWNED_BY_PRESET = ("preset", "trunk", "protocol", "optimizer", "sampler", "precision", "tuning")
GROUP_AXES = ("trunk", "sampler", "optimizer", "protocol")
NOT_AXES = {"dataset", "loss", "preset", *GROUP_AXES}  # columns that are not a single value
TUNING = "tuning_"
ABSENT = "not set"


@dataclass(frozen=True)
class Axis:
    """What may differ between the rows of a table.

    Args:
        name: As typed.
        groups: Column names that it owns, with all columns that start with one of them.
        column: Column that it stands for, if that is a single value.
        followers: Columns that always have the same value, such as a miner's margin that is the loss's.
    """

    name: str
    groups: tuple[str, ...] = ()
    column: str | None = None
    followers: tuple[str, ...] = ()

    @property
    def is_loss(self) -> bool:
        """Whether the rows are methods."""
        return self.name == "loss"

    @property
    def is_tuning(self) -> bool:
        """Whether the rows are tuning budgets, each with the hyper-parameters that it found."""
        return self.column is not None and self.column.startswith(TUNING)

    @property
    def is_preset(self) -> bool:
        """Whether the rows are recipes, which differ in several things."""
        return self.name == "preset"

    def owns(self, name: str) -> bool:
        """Return whether two rows may differ in a column.

        >>> Axis("trunk", ("trunk",)).owns("trunk_make_depth"), Axis("trunk", ("trunk",)).owns("sampler")
        (True, False)
        """
        in_group = name.startswith(tuple(f"{group}_" for group in self.groups))
        return name == self.column or name in self.followers or name in self.groups or in_group

    def equal(self, row: Row) -> dict[str, Scalar]:
        """Return the columns in which all rows of a table agree."""
        if self.is_loss:
            return dict(row.shared)
        found = {name: value for name, value in row.shared.items() if not self.owns(name)}
        if not self.is_preset:
            found |= {name: value for name, value in row.method.items() if not self.owns(name)}
        return found

    def value(self, row: Row) -> Scalar:
        """Return the value of a row on the axis."""
        return row.get(self.column or self.groups[0], ABSENT)

    def label(self, row: Row) -> str:
        """Return the name of a row in print."""
        if self.column is None:
            return str(row.get(f"{self.groups[0]}_label") or row.get(self.groups[0], ABSENT))
        value = self.value(row)
        return f"{self.name.split('.')[-1]} = {'none' if value is None else value}"

    def sort_key(self, row: Row) -> tuple[bool, float, str]:
        """Order rows by their values, numbers by size."""
        number = row.number(self.column or self.groups[0])
        return number is None, number or 0.0, self.label(row)


def find_axis(vary: str, rows: Sequence[Row]) -> Axis:
    """Find the axis that was typed.

    Args:
        vary: `loss`, `preset`, one of `GROUP_AXES`, or a value such as `loss.make.alpha` or `protocol.embedding_dim`.
        rows: Rows to compare.

    Raises:
        UserError: These rows have no such axis.
    """
    if vary == "loss":
        return Axis(vary)
    if vary == "preset":
        return Axis(vary, OWNED_BY_PRESET)
    if vary in GROUP_AXES:
        return Axis(vary, (vary,))
    names = {name for row in rows for name in row.columns}
    known = {name for name in names if column(name).role in ("shared", "method")} - NOT_AXES
    name = column_name(vary)
    if name in known:
        return Axis(vary, column=name, followers=tuple(_followers(name, rows)))
    axes = ["loss", "preset", *GROUP_AXES]
    values = [key for key in map(override_key, known) if column_name(key) in known]
    similar = next((found for keys in (axes, values) if (found := suggest(vary, keys)).startswith("; did")), None)
    similar = similar or f"; known are {', '.join(axes)} and single values such as loss.make.alpha"
    raise UserError(f"--vary {vary} is not an axis of these rows{similar}")


def _followers(name: str, rows: Sequence[Row]) -> list[str]:
    """The method's columns that go with another: those of the same value, and all that a search of another budget sets."""
    having = [row for row in rows if name in row.columns]
    own = dict.fromkeys(other for row in having for other in row.method)
    if name.startswith(TUNING):
        return [other for other in own if other != "loss"]
    return [other for other in own if other != name and all(row.get(other, ABSENT) == row[name] for row in having)]


def column_name(key: str) -> str:
    """Return the column of a dotted key.

    >>> column_name("loss.make.margin"), column_name("protocol.lr")
    ('loss_make_margin', 'protocol_lr')
    """
    return "_".join(part.strip("_") for part in key.split("."))


def override_key(name: str) -> str:
    """Return the dotted key of a column.

    >>> override_key("loss_make_neg_margin"), override_key("protocol_embedding_dim")
    ('loss.make.neg_margin', 'protocol.embedding_dim')
    """
    return re.sub(r"^([a-z]+)_((make|miner)_)?", lambda found: f"{found[1]}." + (f"{found[3]}." if found[3] else ""), name)


def row_labels(methods: Sequence[Row], axis: Axis) -> list[str]:
    """Return a unique name in print for each row of a table; those that would share one get their differing values.

    Args:
        methods: One result row for each row of the table.
        axis: Axis of the table.
    """
    return _method_labels(methods, axis.is_preset) if axis.is_loss or axis.is_preset else _value_labels(methods, axis)


def recipe_notes(labels: Sequence[str], rows: Sequence[Row], axis: Axis) -> list[str]:
    """Return, for each row of a table over presets, the columns in which it differs from the others."""
    names = dict.fromkeys(name for row in rows for name in row.shared if axis.owns(name) and name != "preset")
    differing = [name for name in names if len({repr(row.shared.get(name, ABSENT)) for row in rows}) > 1]
    notes = []
    for label, row in sorted(zip(labels, rows, strict=True), key=lambda pair: pair[0]):
        twins = [other for other in rows if other["loss"] == row["loss"]]
        values = [f"{name}={format_value(row.shared.get(name, ABSENT))}" for name in differing]
        if listed := [*values, *_differing_values(row, twins)]:
            notes.append(f"{label}: {', '.join(listed)}")
    return notes


def _method_labels(methods: Sequence[Row], by_recipe: bool) -> list[str]:
    labels = [str(row.get("loss_label") or row["loss"]) + (f", {_recipe(row)}" if by_recipe else "") for row in methods]
    unique = []
    for row, label in zip(methods, labels, strict=True):
        twins = [other for other, name in zip(methods, labels, strict=True) if name == label]
        values = _differing_values(row, twins)
        unique.append(f"{label} ({', '.join(values)})" if values else label)
    digest = "fingerprint" if by_recipe else "method_digest"
    return [
        label if unique.count(label) == 1 else f"{label} (digest {format_value(row[digest])})"
        for row, label in zip(methods, unique, strict=True)
    ]


def _value_labels(rows: Sequence[Row], axis: Axis) -> list[str]:
    """Names of the values of an axis; rows that share one get what else the axis owns."""
    labels = [axis.label(row) for row in rows]
    unique = []
    for row, label in zip(rows, labels, strict=True):
        twins = [other for other, shared in zip(rows, labels, strict=True) if shared == label]
        owned = dict.fromkeys(name for other in twins for name in (*other.shared, *other.method) if axis.owns(name))
        differing = [name for name in owned if len({repr(other.get(name, ABSENT)) for other in twins}) > 1]
        values = [f"{name}={format_value(row.get(name, ABSENT))}" for name in differing]
        unique.append(f"{label} ({', '.join(values)})" if values else label)
    return unique


def _recipe(row: Row) -> str:
    """The recipe of a row of `--vary preset`: a preset, or the fixed protocol; and whether it was tuned."""
    preset = row.get("preset") or "none"
    recipe = f"fixed protocol {row['protocol']}" if preset == "none" else f"preset {preset}"
    return f"{recipe}, tuned" if row.get("tuning_trials") else recipe


def _differing_values(row: Row, twins: Iterable[Row]) -> list[str]:
    """The hyper-parameters in which a row differs from others of the same loss, as `la=10`."""
    others = list(twins)
    names = dict.fromkeys(name for twin in others for name in twin.method)
    return [
        text
        for name in names
        if len({repr(other.get(name, ABSENT)) for other in others}) > 1 and (text := _assignment(row, name))
    ]


def _assignment(row: Row, name: str) -> str:
    """`neg_margin=0.5` for the column loss_make_neg_margin; empty if the row does not have it."""
    if name not in row.columns:
        return ""
    value = format_value(row[name])
    return value if name == "loss" else f"{re.sub('^loss_(make_)?', '', name)}={value}"
