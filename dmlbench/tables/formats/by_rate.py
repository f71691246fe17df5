"""Tables of methods over learning rates as text."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from csv import writer

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import metric_label, spreadsheet_cell
from dmlbench.tables.by_rate import RateRow, RateTable
from dmlbench.tables.formats.cells import MISSING, layout, percent
from dmlbench.tables.formats.markdown import LINE_LENGTH, STYLE, escape_prose

MEANING = (
    "Columns are learning rates of the trunk; in parentheses: rank at this rate. Bold marks the best rate of each method. It "
    "is the best one on the test set, so it shows how much the choice matters and is no result of a selection"
)


def markdown_by_rate(tables: Sequence[RateTable]) -> str:
    """Write tables as markdown that is also readable as plain text.

    Args:
        tables: What `by_rate.compare_rates` returned.
    """
    return "\n".join("\n\n".join(_blocks(table)) + "\n" for table in tables)


def _blocks(table: RateTable) -> list[str]:
    label = metric_label(table.metric)
    caption = f"{table.caption} {label} over learning rates."
    heading = ["Method", *(f"{rate:g}" for rate in table.rates)]
    rows = [[STYLE.escape(row.label), *_cells(row, table)] for row in table.rows]
    correlations = [_correlation(table.correlations.get(rate)) for rate in table.rates]
    rows.append(["Spearman with the rate before", *correlations])
    align = ["left", *["right"] * len(table.rates)]
    baselines = [f"{row.label}, without a rate: {percent(row.cells.get(None))}" for row in table.baselines]
    notes = [MEANING, *baselines, *table.notes]
    return [
        textwrap.fill(escape_prose(caption), LINE_LENGTH, break_long_words=False, break_on_hyphens=False),
        layout(rows, heading, "pipe", align),
        "\n".join(f"- {escape_prose(note)}" for note in notes),
    ]


def _cells(row: RateRow, table: RateTable) -> list[str]:
    found = []
    for rate in table.rates:
        text = percent(row.cells.get(rate))
        text = STYLE.bold.format(text) if rate == row.best else text
        found.append(f"{text} ({row.ranks[rate]})" if rate in row.ranks else text)
    return found


def _correlation(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def csv_by_rate(tables: Sequence[RateTable]) -> str:
    """Write tables as comma-separated values: one line per method and learning rate, means and half widths as fractions.

    Args:
        tables: What `by_rate.compare_rates` returned.
    """
    text = io.StringIO()
    out = writer(text, lineterminator="\n")
    out.writerow(["table", "loss", "label", "metric", "lr", "mean", "half_width", "rank", "best"])
    for number, table in enumerate(tables, 1):
        for row in (*table.baselines, *table.rows):
            for rate, cell in sorted(row.cells.items(), key=lambda pair: pair[0] or 0.0):
                mean, half_width = (cell.mean, cell.half_width) if cell else (None, None)
                values: list[Scalar] = [number, row.loss, row.label, table.metric, rate, mean, half_width, row.ranks.get(rate)]
                out.writerow([spreadsheet_cell(value) for value in (*values, rate is not None and rate == row.best)])
    return text.getvalue()
