"""What all pictures of a table have in common: the markers of its methods, and the figure with its title and caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from dmlbench.pictures.labels import width
from dmlbench.report.distinct_labels import distinct
from dmlbench.report.svg import N_COLOURS, dashes, element, marker
from dmlbench.results.formatting import format_percent, format_seeds, metric_column
from dmlbench.tables.drawn_queries import drawn_queries
from dmlbench.tables.table import Table
from dmlbench.tables.table_row import Cell, TableRow

MAX_LABEL = 24  # characters of a method's name in a picture; its hint has all of them


@dataclass(frozen=True)
class Figure:
    """A picture, or a sentence that says why there is none.

    Args:
        title: What it shows, a noun phrase.
        caption: How to read it, sentences; or why there is no picture.
        panels: Pictures, each an `svg` element; empty if there is none.
        layout: `half` for one panel, which shares a line of the page with another figure; `panels` for several; `small` for
            several small ones.
        legend: Methods whose markers a legend explains.
    """

    title: str
    caption: str
    panels: Sequence[Markup] = ()
    layout: Literal["half", "panels", "small"] = "half"
    legend: Sequence[Method] = ()


@dataclass(frozen=True)
class Method:
    """A row of the table, as it is drawn.

    Args:
        index: Number of the row in the table, from 0.
        row: The row.
        colour: Class of its colour.
        shape: Number of its marker.
        short_name: Its name, shortened so that it differs from those of other methods; empty if there are no others.
    """

    index: int
    row: TableRow
    colour: str
    shape: int
    short_name: str = ""

    @property
    def label(self) -> str:
        """Its name, shortened."""
        return self.short_name or distinct([self.row.label], MAX_LABEL)[0]

    @property
    def swatch(self) -> Markup:
        """Its marker on its line, for a legend."""
        stroke = element("path", d="M1 8h30", class_=f"line {self.colour}", stroke_dasharray=self.dashes)
        return element(
            "svg", stroke, marker(16, 8, self.shape, self.colour), viewBox="0 0 32 16", class_="swatch", aria_hidden="true"
        )

    @property
    def dashes(self) -> str | None:
        """Dashes of its line; those of baselines differ from those of methods."""
        return dashes(self.shape) if self.row.trained else ("3 3", "1 3")[self.shape % 2]

    @property
    def mark(self) -> dict[str, object]:
        """Attribute by which the page finds everything that shows the method."""
        return {"data_m": self.index}


def methods_of(table: Table) -> list[Method]:
    """Return the rows of a table with a colour and a marker each; baselines are grey.

    Args:
        table: A table.
    """
    found, n_trained, n_baselines = [], 0, 0
    names = distinct([row.label for row in table.rows], MAX_LABEL)
    for index, (row, name) in enumerate(zip(table.rows, names, strict=True)):
        shape = n_trained if row.trained else n_baselines
        found.append(Method(index, row, f"c{n_trained % N_COLOURS}" if row.trained else "base", shape, name))
        n_trained, n_baselines = n_trained + row.trained, n_baselines + (not row.trained)
    return found


def label_width(methods: Sequence[Method]) -> float:
    """Return the width of the longest label, in units of a picture.

    Args:
        methods: Methods that are drawn.
    """
    return 6.9 * max((width(one.label) for one in methods), default=0) + 16


def main_metric(table: Table) -> str | None:
    """Return the metric that pictures of one metric show: MAP@R, if the table prints it; None if it prints none.

    Args:
        table: A table.
    """
    return "map_at_r" if "map_at_r" in table.columns else next(iter(table.columns), None)


def interval_text(cell: Cell, digits: int = 2) -> str:
    """Return a mean with its interval in words.

    Args:
        cell: Mean and half width, as fractions.
        digits: Decimals.

    >>> interval_text(Cell(0.4812, 0.0071)), interval_text(Cell(0.4812, None))
    ('48.12 %, 95 % interval 47.41 to 48.83', '48.12 %')
    """
    mean = f"{format_percent(cell.mean, digits)} %"
    if cell.half_width is None:
        return mean
    low, high = (format_percent(cell.mean + sign * cell.half_width, digits) for sign in (-1, 1))
    return f"{mean}, 95 % interval {low} to {high}"


def interval_scope(methods: Sequence[Method], metrics: Sequence[str]) -> str:
    """Return what the intervals of some metrics are over, such as `seeds and 200 drawn queries`.

    Args:
        methods: Methods of a table.
        metrics: Names of the metrics.

    Returns:
        The clause; empty if no method has an interval.
    """
    if not any((cell := one.row.cells.get(metric)) and cell.half_width is not None for one in methods for metric in metrics):
        return ""
    counts = {drawn_queries(row) for one in methods for row in one.row.rows if row.ok}
    queries = counts.pop() if len(counts) == 1 else None
    seeds = ["seeds"] * any(one.row.n > 1 for one in methods)
    if queries is None:
        return "seeds"
    without = [column.label for metric in metrics if not (column := metric_column(metric)).is_per_query] if seeds else []
    scope = " and ".join([*seeds, f"{queries:,} drawn queries"])
    return f"{scope} (of {', '.join(without)} over seeds only)" if without else scope


def score_hint(row: TableRow, metric: str) -> str:
    """Return the mean of a metric, its interval, and the score of each seed.

    Args:
        row: Row of a table.
        metric: Name of the metric.
    """
    cell = row.cells.get(metric)
    seeds = [(one.seed, one.number(metric)) for one in row.rows]
    if cell is not None and len(seeds) == 1 and seeds[0][1] is not None:
        cell = Cell(seeds[0][1], cell.half_width)  # the mean of rounded scores of queries may differ in its last digit
    if len(seeds) > 10:
        each = f"; {format_seeds([seed for seed, _ in seeds])}"
    else:
        each = "".join(f"; seed {seed}: {'--' if value is None else format_percent(value, 2)}" for seed, value in seeds)
    return f"{'no score' if cell is None else interval_text(cell)}{each}"
