"""Tables of methods over class splits as text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from csv import writer

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import metric_label, spreadsheet_cell
from dmlbench.tables.by_split import SplitRow, SplitTable
from dmlbench.tables.formats.cells import layout, percent
from dmlbench.tables.formats.markdown import STYLE, escape_prose, wrap
from dmlbench.tables.table_row import Cell

MEANING = (
    "Columns are values of dataset.split_seed; in parentheses: rank among trained methods",
    "Mean ± 95 % Student t interval over splits. It contains the chance of the training classes, but takes the splits as "
    "independent although they share classes",
)


def markdown_by_split(tables: Sequence[SplitTable]) -> str:
    """Write tables as markdown that is also readable as plain text.

    Args:
        tables: What `by_split.compare_splits` returned.
    """
    return "\n".join("\n\n".join(_blocks(table)) + "\n" for table in tables)


def _blocks(table: SplitTable) -> list[str]:
    seeds = f", mean over {table.n_seeds} seeds" if table.n_seeds > 1 else ""
    caption = f"{table.caption} {metric_label(table.metric)} in %{seeds}, over class splits."

    heading = ["Method", *(f"Split {seed}" for seed in table.seeds), "Mean"]
    rows = [[STYLE.escape(row.label), *_cells(row), percent(row.mean)] for row in table.rows]
    notes = [*MEANING, *(note for row in table.rows for note in row.notes)]
    if table.correlation is not None:
        pairs = "Spearman's correlation of the trained methods between two splits, mean over pairs of splits"
        notes.append(f"{pairs}: {table.correlation:.2f}")
    return [
        wrap(escape_prose(caption)),
        layout(rows, heading, "pipe", ["left", *["right"] * (len(heading) - 1)]),
        "\n".join(f"- {escape_prose(note)}" for note in notes),
    ]


def _cells(row: SplitRow) -> list[str]:
    texts = [percent(None if score is None else Cell(score, None)) for score in row.scores]
    return [text if rank is None else f"{text} ({rank})" for text, rank in zip(texts, row.ranks, strict=True)]


def csv_by_split(tables: Sequence[SplitTable]) -> str:
    """Write tables as comma-separated values: one line per method and split, and one for the mean over splits; as fractions.

    Args:
        tables: What `by_split.compare_splits` returned.
    """
    text = io.StringIO()
    out = writer(text, lineterminator="\n")
    out.writerow(["table", "loss", "label", "metric", "split_seed", "mean", "half_width", "rank"])
    for number, table in enumerate(tables, 1):
        for row in table.rows:
            cells: list[tuple[Scalar, ...]] = [
                (seed, score, None, rank) for seed, score, rank in zip(table.seeds, row.scores, row.ranks, strict=True)
            ]
            cells += [("all", row.mean.mean, row.mean.half_width, None)] if row.mean else []
            for cell in cells:
                out.writerow(map(spreadsheet_cell, [number, row.loss, row.label, table.metric, *cell]))
    return text.getvalue()
