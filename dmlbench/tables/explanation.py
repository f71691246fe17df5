"""Explain in plain text why rows are in one table or in several."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import combinations

from dmlbench.config.schema import Scalar
from dmlbench.results.columns import CHOICES, column
from dmlbench.results.formatting import format_seeds, format_value
from dmlbench.system.terminal import printable
from dmlbench.tables.axis import ABSENT, GROUP_AXES, override_key
from dmlbench.tables.table import Table
from dmlbench.tables.table_differences import differences, external_note, is_external, known_differences

MAX_PAIRS = 10  # with more pairs of tables, each table is compared only with the most similar one
LINE_LENGTH = 100


def explain(tables: Sequence[Table], vary: str = "loss") -> str:
    """Explain which rows are compared and what separates the others.

    Args:
        tables: What `table.compare` returned.
        vary: Name of the axis.

    Returns:
        For one table, the columns in which all rows agree; for several, the contents of each, and the columns in which each
        pair differs.
    """
    if len(tables) == 1:
        return _text([f"All rows are in one table: {_size(tables[0])}.", "", *_agreement(tables[0], vary), ""])
    lines = [f"{len(tables)} tables: rows are compared only if everything except {vary} and the seed is equal.", ""]
    differing = known_differences(tables)
    named = [name for name in differing if name in CHOICES or column(name).caption]
    lines += [f"Table {i}: {_size(table)}. {_names(table, named)}".rstrip() for i, table in enumerate(tables, 1)]
    if note := external_note(tables):
        lines += ["", *_wrap(f"{note[0].upper()}{note[1:]}.", "")]
    pairs = list(combinations(range(len(tables)), 2))
    if len(pairs) > MAX_PAIRS:
        pairs = [(_most_similar(i, tables), i) for i in range(1, len(tables))]
        lines += ["", "Each table is compared with the most similar one before it."]
    for i, k in pairs:
        lines += ["", *_pair(i, k, tables, vary)]
    return _text([*lines, ""])


def _text(lines: Iterable[str]) -> str:
    return "\n".join(map(printable, lines))


def _size(table: Table) -> str:
    """Return `24 rows, 8 methods, seeds 0, 1, 2`."""
    rows = [row for one in table.rows for row in one.rows]
    kind = "method" if "loss" not in table.shared else "value"
    counts = [_count(len(rows), "row"), _count(len(table.rows), kind)]
    return f"{', '.join(counts)}, {format_seeds(sorted({row.seed for row in rows}))}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _names(table: Table, named: Sequence[str]) -> str:
    """Return what distinguishes a table: `dataset=cub protocol=quick`."""
    if is_external(table):
        return f"dataset={format_value(table.shared['dataset'])} (external embeddings)"
    return " ".join(f"{name}={format_value(table.shared.get(name, ABSENT))}" for name in named)


def _most_similar(i: int, tables: Sequence[Table]) -> int:
    return min(range(i), key=lambda k: len(differences([tables[k], tables[i]])))


def _pair(i: int, k: int, tables: Sequence[Table], vary: str) -> list[str]:
    """Return the columns in which two tables differ: chosen files first, each with the columns that it determines."""
    differing = known_differences([tables[i], tables[k]])
    roots = {name: [other for other in differing if _belongs(other, name)] for name in CHOICES if name in differing}
    determined = {other for columns in roots.values() for other in columns}
    heads = [*roots, *(name for name in differing if name not in roots and name not in determined)]
    if not differing:
        return [f"Tables {i + 1} and {k + 1}: one contains external embeddings."]
    width = max(map(len, heads))
    lines = [f"Tables {i + 1} and {k + 1} differ in {_count(len(differing), 'column')}{_besides(tables[i], tables[k])}:"]
    for name in heads:
        lines.append(f"  {name.ljust(width)}  {_values(differing[name])}")
        if others := roots.get(name):
            text = f"and consequently {', '.join(f'{other} ({_values(differing[other])})' for other in others)}"
            lines += _wrap(text, " " * (width + 4))
    if (axis := _axis(differing, vary)) and not _besides(tables[i], tables[k]):
        lines.append(f"  `--vary {axis}` compares them, for one loss at a time.")
    return lines


def _besides(*pair: Table) -> str:
    """Return a remark if nothing is known about the training of one of two tables."""
    return " that both have" if len(set(map(is_external, pair))) > 1 else ""


def _belongs(name: str, choice: str) -> bool:
    return name.startswith(CHOICES[choice].brings)


def _values(values: tuple[Scalar, ...]) -> str:
    return " | ".join(map(format_value, values))


def _axis(differing: Iterable[str], vary: str) -> str | None:
    """Return the axis on which two tables would be one table, if there is one."""
    names = set(differing)
    if vary != "loss":
        return None
    groups = [group for group in GROUP_AXES if all(name == group or name.startswith(f"{group}_") for name in names)]
    if len(names) == 1 and groups and not names & set(GROUP_AXES):
        return override_key(next(iter(names)))
    return groups[0] if groups else None


def _agreement(table: Table, vary: str) -> list[str]:
    """Return the columns in which all rows agree, one paragraph per chosen file."""
    lines = [f"They agree in everything except {vary} and the seed:"]
    left = dict(table.shared)
    width = max(map(len, CHOICES))
    for choice in ("loss", *(name for name in CHOICES if name != "loss")):
        group = {name: left.pop(name) for name in list(left) if name == choice or _belongs(name, choice)}
        if not group:
            continue
        prefix = CHOICES[choice].brings
        values = ", ".join(
            f"{name.removeprefix(prefix)}={format_value(value)}" for name, value in group.items() if name != choice
        )
        text = f"{format_value(group.get(choice, ABSENT))}{f' ({values})' if values else ''}"
        lines += _wrap(text, " " * (width + 4), f"  {choice.ljust(width)}  ")
    if left:
        lines += _wrap(", ".join(f"{name}={format_value(value)}" for name, value in left.items()), "  ")
    return lines


def _wrap(text: str, indent: str, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        LINE_LENGTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
