"""Sentences of a report: the best methods of a table and what the tests say, and why there are several tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.results.columns import column
from dmlbench.results.formatting import format_percent, metric_label
from dmlbench.tables.table import Table
from dmlbench.tables.table_differences import difference_list
from dmlbench.tables.table_row import TableRow

MAX_NAMED = 6  # methods in a sentence
_NAME = re.compile(r"^(\w+)(?=: )")


def headline(table: Table, metric: str | None) -> str:
    """Return the best trained method of a table, baselines that are higher, and the methods that are not significantly worse.

    Args:
        table: A table.
        metric: Metric of the sentence; None if the table prints none.
    """
    known = _means([one for one in table.rows if one.trained and not one.inconsistent], metric)
    if not known or metric is None:
        return "No trained method has results."
    mean, best = max(known, key=lambda pair: pair[0])
    baselines = _means([one for one in table.rows if not one.trained and not one.inconsistent], metric)
    of_trained = " of a trained method" if baselines else ""
    sentences = [f"Highest {metric_label(metric)}{of_trained}: {best.label} with {format_percent(mean)} %."]
    above = [(value, one.label) for value, one in baselines if value >= mean]
    if above:
        listed = " or ".join(f"{label} ({format_percent(value)} %)" for value, label in sorted(above, reverse=True))
        sentences.append(f"No trained method exceeds {listed}.")
    tested = [one for _, one in known]
    sentences.append(_tests(tested, best, table.bold.get(metric, frozenset())))
    if table.bold.get(metric):
        sentences += _untested(table, tested)
    return " ".join(sentences)


def _means(rows: Sequence[TableRow], metric: str | None) -> list[tuple[float, TableRow]]:
    return [(cell.mean, one) for one in rows if metric and (cell := one.cells.get(metric)) is not None]


def _tests(tested: Sequence[TableRow], best: TableRow, bold: frozenset[str]) -> str:
    """Return which tested methods are not significantly worse than the best one."""
    if not bold:
        return "Differences were not tested."
    ties = [one.label for one in tested if one.label in bold and one is not best]
    if not ties:
        return "Every other tested method is significantly worse."
    if len(ties) > MAX_NAMED:
        return f"{len(ties)} of {len(tested) - 1} other tested methods are not significantly worse."
    return f"Not significantly worse: {', '.join(ties)}."


def _untested(table: Table, tested: Sequence[TableRow]) -> list[str]:
    """Return which trained methods were not tested, and why."""
    left_out = [one for one in table.rows if one.trained and one not in tested]
    if not left_out:
        return []
    if len(left_out) > MAX_NAMED:
        return [f"{len(left_out)} methods were not tested, because they have missing or inconsistent results."]
    listed = ", ".join(f"{one.label} ({'inconsistent' if one.inconsistent else 'missing'} results)" for one in left_out)
    return [f"Not tested: {listed}."]


def labelled_differences(tables: Sequence[Table]) -> tuple[str, list[str]]:
    """Return why several tables are not one: a heading, and items that begin with the names of columns in print.

    Args:
        tables: What `table.compare` returned.
    """
    heading, items = difference_list(tables)
    items = [item.replace(", which --explain lists)", ", which `dmlbench table --explain` lists)") for item in items]
    return heading, [_NAME.sub(lambda found: column(found[1]).label or found[1], item, count=1) for item in items]
