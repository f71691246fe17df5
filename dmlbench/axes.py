"""Floor 3: what may differ between two lines of a table, and what must then be equal.

`loss` compares methods: all shared columns are equal. Any other axis takes one thing out of what is equal and puts
the method in: `trunk` sets network structures side by side, `sampler` samplers, `loss.make.alpha` the values of a
parameter, each for one loss at a time. `preset` alone owns several things at once, so its lines are not made alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dmlbench.errors import UserError, suggest
from dmlbench.rows import Row, Scalar, is_shared

# What a preset owns: these may differ between two lines, and each line says how.
OWNED_BY_PRESET = ("preset", "trunk", "protocol", "optimizer", "sampler", "precision", "tuning")
FAMILIES = ("trunk", "sampler", "optimizer", "protocol")
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
    column = "_".join(part.strip("_") for part in vary.split("."))
    known = {name for row in rows for name in row.columns if is_shared(name) or name in method_columns(row)}
    if column in known and column not in ("dataset", "loss"):
        having = [row for row in rows if column in row.columns]
        followers = [
            name
            for name in dict.fromkeys(name for row in having for name in method_columns(row))
            if name != column and all(row.get(name, ABSENT) == row[column] for row in having)
        ]
        return Axis(vary, column=column, followers=tuple(followers))
    axes = ["loss", "preset", *FAMILIES]
    near = suggest(vary, axes) if suggest(vary, axes).startswith("; did") else suggest(column, known)
    near = near if near.startswith("; did") else f"; known are {', '.join(axes)} and single values such as loss.make.alpha"
    raise UserError(f"vary={vary} is no axis of a table{near}")


def method_columns(row: Row) -> Iterable[str]:
    """The columns that tell a row's method."""
    return (name for name in row.columns if name == "loss" or (name.startswith("loss_") and name != "loss_label"))
