"""Tables as comma-separated values: the one format that carries every column."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from csv import DictWriter

from dmlbench.lines import Cell, Line
from dmlbench.rows import Row, Scalar
from dmlbench.table import Table

_IDENTITY = ("loss", "label", "method_digest", "n", "seeds", "chosen")
_GAP = "oracle_gap"


def csv(tables: Sequence[Table]) -> str:
    """Write all that is known of every method as comma-separated values.

    Args:
        tables: what `table.compare` returned.

    Returns:
        One line a method and table: the shared columns, the method, its seeds and values, each metric's mean and half width as
        fractions, empty where missing, then every other column of its rows, and the notes. Where the rows of a line differ in
        such a column, it holds the mean of their numbers, empty if one lacks it or failed, or their texts with ` | ` between.
    """
    shared = dict.fromkeys(name for table in tables for name in table.shared)
    own = dict.fromkeys(name for table in tables for line in table.lines for row in line.rows for name in row.columns)
    metrics = dict.fromkeys(metric for table in tables for metric in table.metrics)
    numbers = [
        column for metric in (*metrics, *([_GAP] if any(table.oracle for table in tables) else [])) for column in _of(metric)
    ]
    method = [name for name in own if name.startswith("loss_")]
    rest = [name for name in own if name != "seed"]
    names = dict.fromkeys([*shared, *_IDENTITY, *method, *numbers, *rest, "notes"])
    text = io.StringIO()
    writer = DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    for table in tables:
        writer.writerows({**_merged(line.rows), **table.shared, **_line(line)} for line in table.lines)
    return text.getvalue()


def _of(metric: str) -> tuple[str, str]:
    return metric, f"{metric}_half_width"


def _line(line: Line) -> dict[str, Scalar]:
    columns: dict[str, Scalar] = {name: getattr(line, name) for name in ("loss", "label", "method_digest", "n", "chosen")}
    columns |= {"seeds": " ".join(map(str, line.seeds)), "notes": "; ".join(line.notes)}
    for metric, cell in line.cells.items():
        columns |= _cell(metric, cell)
    return columns | (_cell(_GAP, line.oracle_gap) if line.oracle_gap else {})


def _cell(metric: str, cell: Cell | None) -> dict[str, Scalar]:
    return dict(zip(_of(metric), (cell.mean, cell.half_width) if cell else (None, None), strict=True))


def _merged(rows: Sequence[Row]) -> dict[str, Scalar]:
    """The columns of a line's rows as one; the seed is told apart."""
    names = dict.fromkeys(name for row in rows for name in row.columns if name != "seed")
    return {name: _one(name, rows) for name in names}


def _one(name: str, rows: Sequence[Row]) -> Scalar:
    values = [row.get(name) for row in rows]
    if len(set(map(repr, values))) == 1:
        return values[0]
    known = [value for value in values if value is not None]
    numbers = [row.number(name) for row in rows]
    if None not in numbers and all(row.ok for row in rows):
        return statistics.fmean(number for number in numbers if number is not None)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return None  # no mean is taken over holes
    return " | ".join(dict.fromkeys(map(str, known)))
