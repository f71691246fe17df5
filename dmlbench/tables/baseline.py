"""Compare the methods of a table with its baselines: raw pixels and the untrained trunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dmlbench.results.formatting import metric_label
from dmlbench.results.row import BASELINES
from dmlbench.tables.table_row import TableRow


def with_baseline_notes(rows: Sequence[TableRow]) -> list[TableRow]:
    """Add a footnote to each method that is worse than a baseline.

    Args:
        rows: Rows of a table.
    """
    baseline = _best([row for row in rows if not row.trained], "map_at_r")
    if baseline is None:
        return list(rows)
    note = f"its mean MAP@R is below that of {BASELINES[baseline[1].loss]}"
    return [
        replace(row, notes=(*row.notes, note))
        if row.trained and (cell := row.cells.get("map_at_r")) and cell.mean < baseline[0]
        else row
        for row in rows
    ]


def unbeaten_baseline(rows: Sequence[TableRow], metrics: Sequence[str]) -> list[str]:
    """Return a clause for each baseline that no method exceeds in some metrics.

    Args:
        rows: Rows of a table.
        metrics: Printed metrics.
    """
    names: dict[str, list[str]] = {}
    for metric in metrics:
        baseline = _best([row for row in rows if not row.trained], metric)
        method = _best([row for row in rows if row.trained], metric)
        if baseline and method and method[0] <= baseline[0]:
            names.setdefault(BASELINES[baseline[1].loss], []).append(metric_label(metric))
    return [f"no method exceeds {name} in {', '.join(labels)}" for name, labels in names.items()]


def _best(rows: Sequence[TableRow], metric: str) -> tuple[float, TableRow] | None:
    """The highest mean of a consistent row, and the first row that has it; None if no row has the metric."""
    means = [(cell.mean, row) for row in rows if not row.inconsistent and (cell := row.cells.get(metric))]
    return max(means, key=lambda pair: pair[0], default=None)
