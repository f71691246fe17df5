"""Find the columns that separate tables from each other, and those to print.

Nothing is known about the training of external embeddings. Between their tables and others, only the columns that both have
are printed as differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dmlbench.config.schema import Scalar
from dmlbench.results.columns import CHOICES, column
from dmlbench.results.formatting import format_value
from dmlbench.results.row import EXTERNAL
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.overrides import overridden_columns
from dmlbench.tables.table import Table

# Columns that say nothing about the difference between external embeddings and a run: the first two are `external`, and
# the digest of a run is computed from its images, that of external embeddings from their labels and ids.
_NOT_EXTERNAL = ("trunk", "protocol", "split_digest")
_MAX_NAMED = 3


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


def known_differences(tables: Sequence[Table]) -> dict[str, tuple[Scalar, ...]]:
    """Return the shared columns in which tables differ, without those that only external embeddings lack.

    Args:
        tables: What `table.compare` returned.
    """
    found = differences(tables)
    external = [is_external(table) for table in tables]
    if all(external) or not any(external):
        return found
    return {name: values for name, values in found.items() if _is_known(name, values, external)}


def is_external(table: Table) -> bool:
    """Return whether the rows of a table are external embeddings.

    Args:
        table: A table.
    """
    return table.shared.get("protocol") == EXTERNAL


def external_note(tables: Sequence[Table]) -> str:
    """Return a sentence that names the tables of external embeddings, without a full stop; empty if there are none, or all.

    Args:
        tables: What `table.compare` returned.
    """
    numbers = [str(i) for i, table in enumerate(tables, 1) if is_external(table)]
    if len(numbers) in (0, len(tables)):
        return ""
    one = len(numbers) == 1
    which = f"table {numbers[0]} contains" if one else f"tables {', '.join(numbers)} contain"
    return (
        f"{which} external embeddings: nothing is known about their training. To set them beside a run, evaluate the file "
        "embeddings.safetensors of the run too; see docs/add-your-own.md"
    )


def difference_list(tables: Sequence[Table]) -> tuple[str, list[str]]:
    """Return why several tables are not one: a heading, and one item for each chosen file or other column.

    Args:
        tables: What `table.compare` returned.

    Returns:
        Heading and items as plain text. A column that a chosen file determines is part of the item of the file.
    """
    found = known_differences(tables)
    items = []
    for name, values in found.items():
        if any(choice in found and _determines(tables, choice, name) for choice in _choices_of(name)):
            continue
        brings = CHOICES[name].brings if name in CHOICES else ""
        followers = [other for other in found if brings and other.startswith(brings) and _determines(tables, name, other)]
        items.append(f"{name}: {' | '.join(map(format_value, values))}{_followers(followers)}")
    note = external_note(tables)
    return (
        f"{len(tables)} tables: the runs cannot be in one table. They differ in (table 1 | table 2 ...):",
        [*([note] if note else []), *items],
    )


def _followers(names: Sequence[str]) -> str:
    if not names:
        return ""
    what = ", ".join(names) if len(names) <= _MAX_NAMED else f"{len(names)} columns, which --explain lists"
    return f" (and consequently {what})"


def _is_known(name: str, values: Sequence[Scalar], external: Sequence[bool]) -> bool:
    """Whether trained runs, or external embeddings, differ in a column among each other, or both have it."""
    of_trained, of_external = (
        {repr(value) for value, one in zip(values, external, strict=True) if one is kind} for kind in (False, True)
    )
    if max(len(of_trained), len(of_external)) > 1:
        return True
    return name not in _NOT_EXTERNAL and repr(ABSENT) not in (*of_trained, *of_external)


def differences_to_print(tables: Sequence[Table]) -> list[str]:
    """Return the columns in which tables differ although their captions do not show it.

    A column that the name of its configuration file determines is left out (`protocol_pooling`, if all tables of one
    `protocol` have the same pooling), because the caption shows the name.

    Args:
        tables: What `table.compare` returned.
    """
    return [
        name
        for name in known_differences(tables)
        if not _is_in_captions(tables, name) and not any(_determines(tables, choice, name) for choice in _choices_of(name))
    ]


def with_differences(tables: Sequence[Table]) -> list[Table]:
    """Return tables whose details begin with the columns that distinguish them and that their captions do not show.

    Args:
        tables: What `table.compare` returned.
    """
    names = differences_to_print(tables)
    found = []
    for table in tables:
        shown = overridden_columns([row for one in table.rows for row in one.rows])
        values = {name: table.shared.get(name, ABSENT) for name in names if name not in shown}
        values = {name: value for name, value in values.items() if value != ABSENT or not is_external(table)}
        listed = ", ".join(f"{column(name).label or name} = {format_value(value)}" for name, value in values.items())
        found.append(replace(table, details=(f"In this table: {listed}", *table.details)) if listed else table)
    return found


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
