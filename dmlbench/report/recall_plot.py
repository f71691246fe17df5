"""Recall@k of each method over k."""

from __future__ import annotations

from collections.abc import Sequence

from dmlbench.report.figure import Figure, Method, score_hint
from dmlbench.report.scales import horizontal_axis, linear, logarithmic, vertical_axis
from dmlbench.report.svg import line, marker, path, picture, text, with_hint
from dmlbench.results.formatting import metric_column
from dmlbench.tables.table import Table

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460.0, 320.0, 44.0, 14.0, 26.0, 42.0


def recall_figure(table: Table, methods: Sequence[Method]) -> Figure:
    """Draw one line per method.

    Args:
        table: A table.
        methods: Its methods.
    """
    title = "Recall@k over k"
    columns = {metric: metric_column(metric) for metric in table.metrics if metric.startswith("recall_at_")}
    by_k = {one.k: metric for metric, one in columns.items() if one.k}
    curves = {one.index: {k: cell for k, metric in by_k.items() if (cell := one.row.cells.get(metric))} for one in methods}
    drawn = [one for one in methods if len(curves[one.index]) > 1]
    if not drawn:
        return Figure(title, "No method of this table has Recall@k for two values of k.")
    right, bottom, ks = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, sorted(by_k)
    x = logarithmic([k / 1.08 for k in ks[:1]] + [k * 1.08 for k in ks[-1:]], _LEFT, right, ks)
    y = linear([100 * cell.mean for one in drawn for cell in curves[one.index].values()], bottom, _TOP)
    lines = []
    for one in drawn:
        # A small shift keeps the intervals of several methods at one k apart.
        shift = 2.5 * (one.index - (len(methods) - 1) / 2)
        points = [(x(k) + shift, y(100 * cell.mean)) for k, cell in sorted(curves[one.index].items())]
        bars = [
            line(
                at, y(100 * (cell.mean - cell.half_width)), at, y(100 * (cell.mean + cell.half_width)), f"interval {one.colour}"
            )
            for (at, _), (_, cell) in zip(points, sorted(curves[one.index].items()), strict=True)
            if cell.half_width is not None
        ]
        marks = [marker(at, height, one.shape, one.colour) for at, height in points]
        hint = "; ".join(f"R@{k}: {score_hint(one.row, by_k[k]).partition(';')[0]}" for k in sorted(curves[one.index]))
        lines.append(with_hint(f"{one.row.label}: {hint}", path(points, one.colour, one.dashes), *bars, *marks, **one.mark))
    heading = text(0, 14, "Recall@k, %", class_="heading")
    described = f"Recall at {', '.join(map(str, ks))} of {len(drawn)} methods; the table above has the numbers"
    axes = [horizontal_axis(x, _TOP, bottom, "k (logarithmic)"), vertical_axis(y, _LEFT, right)]
    caption = "Means with 95 % intervals over seeds; lines are shifted a little so that intervals do not hide each other."
    return Figure(title, caption, [picture(_WIDTH, _HEIGHT, described, heading, *axes, *lines)], legend=drawn)
