"""Floor 5: why rows stand in one table or in several, in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import combinations

from dmlbench.axes import ABSENT, FAMILIES
from dmlbench.labels import shown
from dmlbench.rows import SHARED, Scalar
from dmlbench.table import CAPTION_COLUMNS, Table, differences

_CHOICES = ("loss", *SHARED)  # the names that were chosen, each of which brings columns along
MOST_PAIRS = 10  # of more tables than make these, each is set against the one that it is most like
LINE_LENGTH = 100


def explain(tables: Sequence[Table], vary: str = "loss") -> str:
    """Say which rows stand together and what keeps the others apart.

    Args:
        tables: what `table.compare` returned.
        vary: the axis that it was given.

    Returns:
        Of one table what all rows agree in; of several what each holds, and for each pair the columns in which they differ.
    """
    if len(tables) == 1:
        return "\n".join([f"All rows stand in one table: {_size(tables[0])}.", "", *_agreement(tables[0], vary), ""])
    said = [f"{len(tables)} tables, for rows stand side by side only where everything but {vary} and the seed is equal.", ""]
    apart = differences(tables)
    told = [name for name in dict.fromkeys((*_CHOICES, *CAPTION_COLUMNS)) if name in apart]
    said += [f"Table {i}: {_size(table)}. {_names(table, told)}".rstrip() for i, table in enumerate(tables, 1)]
    pairs = list(combinations(range(len(tables)), 2))
    if len(pairs) > MOST_PAIRS:
        pairs = [(_nearest(i, tables), i) for i in range(1, len(tables))]
        said += ["", "Each table is set against the one before it that it is most like."]
    for i, k in pairs:
        said += ["", *_pair(i, k, tables, vary)]
    return "\n".join([*said, ""])


def _size(table: Table) -> str:
    """`24 rows, 8 lines, seeds 0, 1, 2`."""
    rows = [row for line in table.lines for row in line.rows]
    seeds = sorted({int(row["seed"]) for row in rows if isinstance(row["seed"], int)})
    counts = [_count(len(rows), "row"), _count(len(table.lines), "method" if "loss" not in table.shared else "line")]
    return f"{', '.join(counts)}, seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _names(table: Table, told: Sequence[str]) -> str:
    """What a reader knows a table by, as far as the tables differ in it: `dataset=cub protocol=quick`."""
    return " ".join(f"{name}={shown(table.shared.get(name, ABSENT))}" for name in told)


def _nearest(i: int, tables: Sequence[Table]) -> int:
    return min(range(i), key=lambda k: len(differences([tables[k], tables[i]])))


def _pair(i: int, k: int, tables: Sequence[Table], vary: str) -> list[str]:
    """The columns in which two tables differ, those first that were chosen, and each with what it brings along."""
    apart = differences([tables[i], tables[k]])
    roots = {name: [column for column in apart if _belongs(column, name)] for name in _CHOICES if name in apart}
    brought = {column for columns in roots.values() for column in columns}
    heads = [*roots, *(name for name in apart if name not in roots and name not in brought)]
    width = max(map(len, heads))
    said = [f"Tables {i + 1} and {k + 1} differ in {_count(len(apart), 'column')}:"]
    for name in heads:
        said.append(f"  {name.ljust(width)}  {_values(apart[name])}")
        if with_it := roots.get(name):
            text = f"and with it {', '.join(f'{column} ({_values(apart[column])})' for column in with_it)}"
            said += _filled(text, " " * (width + 4))
    if axis := _axis(apart, vary):
        said.append(f"  `vary={axis}` would set these side by side, one loss at a time.")
    return said


def _belongs(column: str, name: str) -> bool:
    return column.startswith("split_" if name == "dataset" else f"{name}_")


def _values(values: tuple[Scalar, ...]) -> str:
    return " | ".join(map(shown, values))


def _axis(apart: Iterable[str], vary: str) -> str | None:
    """What to vary so that two tables become one, if one axis does."""
    columns = set(apart)
    if vary != "loss":
        return None
    families = [name for name in FAMILIES if all(column == name or column.startswith(f"{name}_") for column in columns)]
    if len(columns) == 1 and families and not columns & set(FAMILIES):
        return next(iter(columns)).replace("_", ".", 1)
    return families[0] if families else None


def _agreement(table: Table, vary: str) -> list[str]:
    """What all rows agree in, a family of columns a paragraph."""
    said = [f"They agree in everything but {vary} and the seed:"]
    left = dict(table.shared)
    width = max(map(len, _CHOICES))
    for name in _CHOICES:
        own = {column: left.pop(column) for column in list(left) if column == name or _belongs(column, name)}
        if not own:
            continue
        values = ", ".join(
            f"{column.removeprefix(f'{name}_')}={shown(value)}" for column, value in own.items() if column != name
        )
        text = f"{shown(own.get(name, ABSENT))}{f' ({values})' if values else ''}"
        said += _filled(text, " " * (width + 4), f"  {name.ljust(width)}  ")
    if left:
        said += _filled(", ".join(f"{column}={shown(value)}" for column, value in left.items()), "  ")
    return said


def _filled(text: str, indent: str, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        LINE_LENGTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
