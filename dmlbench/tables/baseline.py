"""Compare the methods of a table with the untrained trunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dmlbench.results.formatting import metric_label
from dmlbench.tables.table_row import TableRow


def highest_mean(rows: Iterable[TableRow], metric: str) -> float | None:
    """Return the highest mean of some methods, a fraction; None if none of them has the metric.

    Args:
        rows: Rows of a table.
        metric: Name of the metric.
    """
    return max((cell.mean for row in rows if (cell := row.cells.get(metric))), default=None)


def with_baseline_notes(rows: Sequence[TableRow]) -> list[TableRow]:
    """Add a footnote to each method that is worse than the untrained trunk.

    Args:
        rows: Rows of a table.
    """
    baseline = highest_mean((row for row in rows if not row.trained), "map_at_r")
    annotated = []
    for row in rows:
        cell = row.cells.get("map_at_r")
        if baseline is not None and cell and row.trained and cell.mean < baseline:
            row = replace(row, notes=(*row.notes, "its mean MAP@R is below that of the untrained trunk"))
        annotated.append(row)
    return annotated


def unbeaten_baseline(rows: Sequence[TableRow], metrics: Sequence[str]) -> list[str]:
    """Return a clause that names the metrics in which no method exceeds the untrained trunk, if there are any.

    Args:
        rows: Rows of a table.
        metrics: Printed metrics.
    """
    names = []
    for metric in metrics:
        baseline = highest_mean((row for row in rows if not row.trained), metric)
        best = highest_mean((row for row in rows if row.trained), metric)
        if baseline is not None and best is not None and best <= baseline:
            names.append(metric_label(metric))
    return [f"no method exceeds the untrained trunk in {', '.join(names)}"] if names else []
