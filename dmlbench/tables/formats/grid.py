"""Tables of a method over two hyper-parameters as text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from csv import writer

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import metric_label, spreadsheet_cell
from dmlbench.tables.formats.cells import MISSING, layout, percent
from dmlbench.tables.formats.markdown import STYLE, escape_prose, wrap
from dmlbench.tables.grid import GridTable, short, value_text

BEST = "Bold marks the best values on the test set: it shows how much the choice matters and is no result of a selection"


def markdown_grid(tables: Sequence[GridTable]) -> str:
    """Write tables as markdown that is also readable as plain text.

    Args:
        tables: What `grid.compare_grid` returned.
    """
    return "\n".join("\n\n".join(_blocks(table)) + "\n" for table in tables)


def _blocks(table: GridTable) -> list[str]:
    down, across = table.keys
    text = f"{table.caption} {metric_label(table.metric)} of {table.label}: rows are {down}, columns are {across}."
    heading = [
        STYLE.escape(f"{short(down)} / {short(across)}"),
        *(STYLE.escape(value_text(value)) for value in table.values[1]),
    ]
    rows = [
        [STYLE.escape(value_text(value)), *(_text(table, value, other) for other in table.values[1])]
        for value in table.values[0]
    ]
    notes = [BEST, *(f"{label}: {percent(cell)}" for label, cell in table.baselines.items()), *table.notes]
    return [
        wrap(escape_prose(text)),
        layout(rows, heading, "pipe", ["left", *["right"] * len(table.values[1])]),
        "\n".join(f"- {escape_prose(note)}" for note in notes),
    ]


def _text(table: GridTable, value: Scalar, other: Scalar) -> str:
    text = percent(table.cells.get((value, other)))
    return STYLE.bold.format(text) if (value, other) == table.best and text != MISSING else text


def csv_grid(tables: Sequence[GridTable]) -> str:
    """Write tables as comma-separated values: one line per combination of values, means and half widths as fractions.

    Args:
        tables: What `grid.compare_grid` returned.
    """
    text = io.StringIO()
    out = writer(text, lineterminator="\n")
    out.writerow(
        ["table", "loss", "label", "metric", "row", "row_value", "column", "column_value", "mean", "half_width", "best"]
    )
    for number, table in enumerate(tables, 1):
        down, across = table.keys
        for value in table.values[0]:
            for other in table.values[1]:
                cell = table.cells.get((value, other))
                mean, half_width = (cell.mean, cell.half_width) if cell else (None, None)
                method: list[Scalar] = [number, table.loss, table.label, table.metric]
                line = [*method, down, value, across, other, mean, half_width, (value, other) == table.best]
                out.writerow(map(spreadsheet_cell, line))
    return text.getvalue()
