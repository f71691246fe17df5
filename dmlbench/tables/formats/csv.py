"""Tables as comma-separated values, the only format with all columns."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from csv import writer

from dmlbench.config.schema import Scalar
from dmlbench.results.columns import column
from dmlbench.results.formatting import spreadsheet_cell
from dmlbench.results.row import Row
from dmlbench.tables.table import Table
from dmlbench.tables.table_row import Cell, TableRow

_IDENTITY = ("loss", "label", "method_digest", "n", "seeds", "selection")
_GAP = "oracle_gap"


def csv(tables: Sequence[Table]) -> str:
    """Write all columns of every method as comma-separated values.

    Args:
        tables: What `table.compare` returned.

    Returns:
        One line per method and table: shared columns, method, seeds and hyper-parameters, mean and half width of each metric
        as fractions (empty if missing), all other columns of the result rows, and notes. If the rows of a method differ in one
        of these other columns, the value is the mean of their numbers (empty if a row failed or does not have it), or their
        texts joined by ` | `. Texts that a spreadsheet would read as formulas begin with an apostrophe.
    """
    shared = dict.fromkeys(name for table in tables for name in table.shared)
    rows = [row for table in tables for one in table.rows for row in one.rows]
    columns = dict.fromkeys(name for row in rows for name in row.columns)
    metrics = dict.fromkeys(metric for table in tables for metric in table.metrics)
    gap = [_GAP] if any(table.oracle for table in tables) else []
    numbers = [name for metric in (*metrics, *gap) for name in _names(metric)]
    method = [name for name in columns if column(name).role == "method" or name == "loss_label"]
    rest = [name for name in columns if name != "seed"]
    names = dict.fromkeys([*shared, *_IDENTITY, *method, *numbers, *rest, "notes"])
    text = io.StringIO()
    out = writer(text, lineterminator="\n")
    out.writerow(map(spreadsheet_cell, names))
    for table in tables:
        for row in table.rows:
            values = {**_merged(row.rows), **table.shared, **_values(row)}
            out.writerow([spreadsheet_cell(values.get(name, "")) for name in names])
    return text.getvalue()


def _names(metric: str) -> tuple[str, str]:
    return metric, f"{metric}_half_width"


def _values(row: TableRow) -> dict[str, Scalar]:
    columns: dict[str, Scalar] = {name: getattr(row, name) for name in ("loss", "label", "method_digest", "n", "selection")}
    columns |= {"seeds": " ".join(map(str, row.seeds)), "notes": "; ".join(row.notes)}
    for metric, cell in row.cells.items():
        columns |= _cell(metric, cell)
    return columns | (_cell(_GAP, row.oracle_gap) if row.oracle_gap else {})


def _cell(metric: str, cell: Cell | None) -> dict[str, Scalar]:
    return dict(zip(_names(metric), (cell.mean, cell.half_width) if cell else (None, None), strict=True))


def _merged(rows: Sequence[Row]) -> dict[str, Scalar]:
    """Merge the columns of a method's rows, without the seed."""
    names = dict.fromkeys(name for row in rows for name in row.columns if name != "seed")
    return {name: _one(name, rows) for name in names}


def _one(name: str, rows: Sequence[Row]) -> Scalar:
    values = [row.get(name) for row in rows]
    first = values[0]
    if all(value is first or (type(value) is type(first) is str and value == first) for value in values):  # the usual case
        return first
    if len(set(map(repr, values))) == 1:
        return first
    known = [value for value in values if value is not None]
    numbers = [row.number(name) for row in rows]
    if None not in numbers and all(row.ok for row in rows):
        return statistics.fmean(number for number in numbers if number is not None)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return None  # missing values are not averaged
    return " | ".join(dict.fromkeys(map(str, known)))
