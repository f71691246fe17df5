"""The axis of a table: what may differ between its rows, and the names of the rows in print.

`loss` compares methods, whose rows agree in all shared columns. On any other axis, rows have the same method and differ in one
thing only: `trunk` compares trunks, `sampler` samplers, `loss.make.alpha` values of a hyper-parameter, each for one loss at a
time; `layer` compares the layers of one model that images are retrieved by. On `tuning.trials`, rows also differ in the
hyper-parameters that each budget found. On `preset`, rows differ in several things at once; they are not comparable, and none
is marked as best.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError, suggest
from dmlbench.results.columns import column
from dmlbench.results.row import Row

# Groups of columns that a preset sets. Rows may differ in them; the notes list the differences.
OWNED_BY_PRESET = ("preset", "trunk", "protocol", "optimizer", "sampler", "precision", "tuning")
GROUP_AXES = ("trunk", "sampler", "optimizer", "protocol")
NOT_AXES = {"dataset", "loss", "preset", *GROUP_AXES}  # columns that are not a single value
TUNING = "tuning_"
ABSENT = "not set"  # printed for a column that a row does not have
LAYER = "evaluation_layer"


@dataclass(frozen=True)
class Axis:
    """What may differ between the rows of a table.

    Args:
        name: Name of the axis on the command line.
        groups: Names of columns in which rows may differ, with all columns that start with one of them and an underscore.
        column: Column in which rows differ, if the axis is a single value.
        followers: Columns that change together with it, such as a miner's margin that is set to the loss's margin.
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
        """Return whether rows may differ in a column.

        Args:
            name: Name of the column.

        >>> Axis("trunk", ("trunk",)).owns("trunk_make_depth"), Axis("trunk", ("trunk",)).owns("sampler")
        (True, False)
        """
        in_group = name.startswith(tuple(f"{group}_" for group in self.groups))
        return name == self.column or name in self.followers or name in self.groups or in_group

    def equal(self, row: Row) -> dict[str, Scalar]:
        """Return the columns in which all rows of a table agree.

        Args:
            row: A row of the table.
        """
        if self.is_loss:
            return dict(row.shared)
        found = {name: value for name, value in row.shared.items() if not self.owns(name)}
        if not self.is_preset:
            found |= {name: value for name, value in row.method.items() if not self.owns(name)}
        return found

    def value(self, row: Row) -> Scalar:
        """Return the value of a row on the axis. The layer `embedding` is the one by which the method retrieves images.

        Args:
            row: Result row.
        """
        if self.column == LAYER and row.get(LAYER, "embedding") == "embedding":
            return row.get("loss_layer", "embedding")
        return row.get(self.column or self.groups[0], ABSENT)

    def label(self, row: Row) -> str:
        """Return the name of a row in print.

        Args:
            row: Result row.
        """
        if self.column is None:
            return str(row.get(f"{self.groups[0]}_label") or row.get(self.groups[0], ABSENT))
        value = self.value(row)
        return f"{self.name.split('.')[-1]} = {'none' if value is None else value}"

    def sort_key(self, row: Row) -> tuple[bool, float, str]:
        """Return a key that orders rows by their values, numbers by size.

        Args:
            row: Result row.
        """
        number = row.number(self.column or self.groups[0])
        return number is None, number or 0.0, self.label(row)


def find_axis(vary: str, rows: Sequence[Row]) -> Axis:
    """Find an axis by its name.

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
    if vary == "layer":
        return Axis(vary, column=LAYER)
    names = {name for row in rows for name in row.columns}
    known = {name for name in names if column(name).role in ("shared", "method")} - NOT_AXES
    name = column_name(vary)
    if name in known:
        return Axis(vary, column=name, followers=tuple(_followers(name, rows)))
    axes = ["loss", "preset", *GROUP_AXES, "layer"]
    values = [key for key in map(override_key, known) if column_name(key) in known]
    similar = next((found for keys in (axes, values) if (found := suggest(vary, keys)).startswith("; did")), None)
    similar = similar or f"; known are {', '.join(axes)} and single values such as loss.make.alpha"
    raise UserError(f"--vary {vary} is not an axis of these rows{similar}")


def _followers(name: str, rows: Sequence[Row]) -> list[str]:
    """Return the method's columns that always equal a column; for a tuning budget, all columns that the search may set."""
    with_column = [row for row in rows if name in row.columns]
    method = dict.fromkeys(other for row in with_column for other in row.method)
    if name.startswith(TUNING):
        return [other for other in method if other != "loss"]
    return [other for other in method if other != name and all(row.get(other, ABSENT) == row[name] for row in with_column)]


def column_name(key: str) -> str:
    """Return the column of a dotted key.

    Args:
        key: Key of an override.

    >>> column_name("loss.make.margin"), column_name("protocol.lr")
    ('loss_make_margin', 'protocol_lr')
    """
    return "_".join(part.strip("_") for part in key.split("."))


def override_key(name: str) -> str:
    """Return the dotted key of a column.

    Args:
        name: Name of a column.

    >>> override_key("loss_make_neg_margin"), override_key("protocol_embedding_dim")
    ('loss.make.neg_margin', 'protocol.embedding_dim')
    """
    return re.sub(r"^([a-z]+)_((make|miner)_)?", lambda found: f"{found[1]}." + (f"{found[3]}." if found[3] else ""), name)
