"""Find the columns that separate tables from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.columns import CHOICES, column
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.table import Table


def differences(tables: Sequence[Table]) -> dict[str, tuple[Scalar, ...]]:
    """Return the shared columns in which tables differ.

    Args:
        tables: What `table.compare` returned.

    Returns:
        Each shared column in which not all tables agree, to its value in each table, or `ABSENT`.
    """
    columns = sorted({name for table in tables for name in table.shared})
    values = {name: tuple(table.shared.get(name, ABSENT) for table in tables) for name in columns}
    return {name: found for name, found in values.items() if len(set(map(repr, found))) > 1}


def differences_to_print(tables: Sequence[Table]) -> list[str]:
    """Return the columns in which tables differ although their captions do not show it.

    A column that the name of its configuration file determines is left out (`protocol_pooling`, if all tables of one
    `protocol` have the same pooling), because the caption shows the name.

    Args:
        tables: What `table.compare` returned.
    """
    return [
        name
        for name in differences(tables)
        if not _is_in_captions(tables, name) and not any(_determines(tables, choice, name) for choice in _choices_of(name))
    ]


def _is_in_captions(tables: Sequence[Table], name: str) -> bool:
    """Whether the captions distinguish all values of a column; two trunks may have the same label."""
    if not column(name).caption:
        return False
    values = {repr(table.shared.get(name, ABSENT)) for table in tables}
    return len({_caption_text(table, name) for table in tables}) == len(values)


def _caption_text(table: Table, name: str) -> str:
    """Return the text by which a caption shows the value of a column."""
    value = table.shared.get(name)
    if value is None or (name == "preset" and value == "none"):
        return ""
    return str(table.rows[0].rows[0].get(f"{name}_label") or value)


def _choices_of(name: str) -> Iterable[str]:
    return (choice for choice, one in CHOICES.items() if name.startswith(one.brings))


def _determines(tables: Sequence[Table], choice: str, name: str) -> bool:
    """Whether the chosen file alone determines the column in these tables."""
    pairs = {(repr(table.shared.get(choice)), repr(table.shared.get(name, ABSENT))) for table in tables}
    return len(pairs) == len({chosen for chosen, _ in pairs})
