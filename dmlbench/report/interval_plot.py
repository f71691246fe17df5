"""Every printed metric with its 95 % intervals; methods that are not significantly worse than the best are marked."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from dmlbench.report.figure import Figure, Method, interval_scope, label_width, score_hint
from dmlbench.report.scales import Scale, horizontal_axis, linear
from dmlbench.report.svg import line, marker, picture, text, with_hint
from dmlbench.results.formatting import format_percent, metric_label
from dmlbench.tables.table import Table

_PLOT, _RIGHT, _ROW, _TOP = 230.0, 44.0, 20.0, 26.0


def interval_figure(table: Table, methods: Sequence[Method]) -> Figure:
    """Draw one panel per metric.

    Args:
        table: A table.
        methods: Its methods.
    """
    title = "Scores with 95 % intervals"
    drawn = [metric for metric in table.columns if any(one.row.cells.get(metric) for one in methods)]
    if not drawn:
        return Figure(title, "No method of this table has scores.")
    scope = interval_scope(methods, drawn)
    intervals = f"Lines are 95 % intervals over {scope}." if scope else "One seed: no intervals."
    ties = "Filled markers and bold numbers: the best method, and those not significantly worse; others are hollow."
    untested = "All markers are hollow because no metric was tested; the caption of the table says why."
    return Figure(
        title, f"{intervals} {ties if table.bold else untested}", [_panel(table, methods, one) for one in drawn], "panels"
    )


def _panel(table: Table, methods: Sequence[Method], metric: str) -> Markup:
    cells = {one.index: cell for one in methods if (cell := one.row.cells.get(metric)) is not None}
    ends = [100 * (cell.mean + sign * (cell.half_width or 0)) for cell in cells.values() for sign in (-1, 1)]
    left = label_width(methods)
    scale = linear([min(max(end, -100), 100) for end in ends], left, left + _PLOT)
    bottom = _TOP + _ROW * len(methods)
    rows = [_row(table, one, metric, scale, _TOP + _ROW * (i + 0.5)) for i, one in enumerate(methods)]
    label = metric_label(metric)
    heading = text(0, 14, f"{label}, %", class_="heading")
    described = f"{label} of {len(cells)} methods with 95 % intervals; the table above has the numbers"
    return picture(scale.end + _RIGHT, bottom + 20, described, heading, horizontal_axis(scale, _TOP, bottom, ""), *rows)


def _row(table: Table, method: Method, metric: str, scale: Scale, y: float) -> Markup:
    cell = method.row.cells.get(metric)
    best = method.row.label in table.bold.get(metric, ())
    parts = [text(scale.start - 10, y + 4, method.label, "end")]
    if cell is None:
        parts.append(text(scale.end + _RIGHT, y + 4, "--", "end", "value"))
    else:
        x = scale(100 * cell.mean)
        if cell.half_width is not None:
            ends = [scale(100 * (cell.mean + sign * cell.half_width)) for sign in (-1, 1)]
            parts.append(line(ends[0], y, ends[1], y, f"interval {method.colour}"))
        parts.append(marker(x, y, method.shape, method.colour, filled=best))
        parts.append(text(scale.end + _RIGHT, y + 4, format_percent(cell.mean), "end", "value strong" if best else "value"))
    return with_hint(f"{method.row.label}: {score_hint(method.row, metric)}", *parts, **method.mark)
