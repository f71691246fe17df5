"""Floor 3: what may differ between two lines of a table, and what must then be equal.

`loss` compares methods: all shared columns are equal. Any other axis takes one thing out of what is equal and puts
the method in: `trunk` sets network structures side by side, `sampler` samplers, `loss.make.alpha` the values of a
parameter, each for one loss at a time; with `tuning.trials` the values that each budget found follow it. `preset`
alone owns several things at once, so its lines are not made alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dmlbench.errors import UserError, suggest
from dmlbench.rows import Row, Scalar, is_shared

# What a preset owns: these may differ between two lines, and each line says how.
OWNED_BY_PRESET = ("preset", "trunk", "protocol", "optimizer", "sampler", "precision", "tuning")
FAMILIES = ("trunk", "sampler", "optimizer", "protocol")
NO_AXIS = {"dataset", "loss", "preset", *FAMILIES}  # columns that are no single value
TUNING = "tuning_"
ABSENT = "(absent)"


@dataclass(frozen=True)
class Axis:
    """One axis.

    Args:
        name: as it is typed.
        families: column names that it owns, with all that begin so.
        column: the one column that it stands for, where it is a single value.
        followers: columns that always have the same value, as a miner's margin that is the loss's.
    """

    name: str
    families: tuple[str, ...] = ()
    column: str | None = None
    followers: tuple[str, ...] = ()

    @property
    def is_loss(self) -> bool:
        """Whether lines are methods."""
        return self.name == "loss"

    @property
    def is_tuning(self) -> bool:
        """Whether lines are budgets of a search, each with the method's values that it found."""
        return self.column is not None and self.column.startswith(TUNING)

    @property
    def is_preset(self) -> bool:
        """Whether lines are recipes, which differ in several things."""
        return self.name == "preset"

    def owns(self, column: str) -> bool:
        """Whether two lines may differ in a column.

        >>> Axis("trunk", ("trunk",)).owns("trunk_make_depth"), Axis("trunk", ("trunk",)).owns("sampler")
        (True, False)
        """
        begins = column.startswith(tuple(f"{name}_" for name in self.families))
        return column == self.column or column in self.followers or column in self.families or begins

    def equal(self, row: Row) -> dict[str, Scalar]:
        """What all rows of a table agree in."""
        if self.is_loss:
            return dict(row.shared)
        found = {name: value for name, value in row.shared.items() if not self.owns(name)}
        if not self.is_preset:
            found |= {name: row[name] for name in method_columns(row) if not self.owns(name)}
        return found

    def value(self, row: Row) -> Scalar:
        """Where on the axis a row stands."""
        return row.get(self.column or self.families[0], ABSENT)

    def label(self, row: Row) -> str:
        """The name of its line in print."""
        if self.column is None:
            return str(row.get(f"{self.families[0]}_label") or row.get(self.families[0], ABSENT))
        value = self.value(row)
        return f"{self.name.split('.')[-1]} = {'none' if value is None else value}"

    def place(self, row: Row) -> tuple[bool, float, str]:
        """Lines in the order of their values: numbers by size."""
        number = row.number(self.column or self.families[0])
        return number is None, number or 0.0, self.label(row)


def axis_of(vary: str, rows: Sequence[Row]) -> Axis:
    """The axis that was typed.

    Args:
        vary: `loss`, `preset`, one of `FAMILIES`, or a value such as `loss.make.alpha` or `protocol.embedding_dim`.
        rows: that are to be compared.

    Raises:
        UserError: there is no such axis in these rows.
    """
    if vary == "loss":
        return Axis(vary)
    if vary == "preset":
        return Axis(vary, OWNED_BY_PRESET)
    if vary in FAMILIES:
        return Axis(vary, (vary,))
    known = {name for row in rows for name in row.columns if is_shared(name) or name in method_columns(row)} - NO_AXIS
    column = _typed(vary)
    if column in known:
        return Axis(vary, column=column, followers=tuple(_followers(column, rows)))
    axes = ["loss", "preset", *FAMILIES]
    values = [name for name in map(dotted, known) if _typed(name) in known]
    near = next((found for names in (axes, values) if (found := suggest(vary, names)).startswith("; did")), None)
    near = near or f"; known are {', '.join(axes)} and single values such as loss.make.alpha"
    raise UserError(f"vary={vary} is no axis of a table{near}")


def _followers(column: str, rows: Sequence[Row]) -> list[str]:
    """The method's columns that go with another: those of the same value, and all that a search of another budget sets."""
    having = [row for row in rows if column in row.columns]
    own = dict.fromkeys(name for row in having for name in method_columns(row))
    if column.startswith(TUNING):
        return [name for name in own if name != "loss"]
    return [name for name in own if name != column and all(row.get(name, ABSENT) == row[column] for row in having)]


def _typed(vary: str) -> str:
    """The column of a value as it is typed."""
    return "_".join(part.strip("_") for part in vary.split("."))


def dotted(column: str) -> str:
    """A value's column as it is typed.

    >>> dotted("loss_make_neg_margin"), dotted("protocol_embedding_dim")
    ('loss.make.neg_margin', 'protocol.embedding_dim')
    """
    return re.sub(r"^([a-z]+)_((make|miner)_)?", lambda found: f"{found[1]}." + (f"{found[3]}." if found[3] else ""), column)


def method_columns(row: Row) -> Iterable[str]:
    """The columns that tell a row's method."""
    return (name for name in row.columns if name == "loss" or (name.startswith("loss_") and name != "loss_label"))
