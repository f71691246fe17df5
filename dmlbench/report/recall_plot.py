"""Recall@k of each method over k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from dmlbench.report.figure import Figure, Method, interval_scope, score_hint
from dmlbench.report.scales import Scale, horizontal_axis, linear, logarithmic, vertical_axis
from dmlbench.report.svg import line, marker, path, picture, text, with_hint
from dmlbench.results.formatting import metric_column
from dmlbench.tables.table import Table
from dmlbench.tables.table_row import Cell

MAX_MARKED = 7  # trained methods with a colour and markers; further ones are thin lines
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 460.0, 320.0, 44.0, 26.0, 42.0
_SHIFT, _MAX_SPREAD = 2.5, 16.0  # between neighbouring methods, and between the first and the last one
_MARGIN = _MAX_SPREAD / 2 + 6  # of the axis, so that no marker leaves it

_Curve = Mapping[int, Cell]  # k to Recall@k


def recall_figure(table: Table, methods: Sequence[Method]) -> Figure:
    """Draw one line per method.

    Args:
        table: A table.
        methods: Its methods.
    """
    title = "Recall@k over k"
    columns = {metric: metric_column(metric) for metric in table.metrics if metric.startswith("recall_at_")}
    by_k = {one.k: metric for metric, one in sorted(columns.items(), key=lambda pair: pair[1].k or 0) if one.k}
    curves = {one.index: {k: cell for k, metric in by_k.items() if (cell := one.row.cells.get(metric))} for one in methods}
    drawn = [one for one in methods if len(curves[one.index]) > 1]
    if not drawn:
        return Figure(title, "No method of this table has Recall@k for two values of k.")
    marked = _marked(drawn, curves)
    right, bottom = _WIDTH - 2, _HEIGHT - _BOTTOM
    ks = list(by_k)
    x = logarithmic([ks[0], ks[-1]], _LEFT + _MARGIN, right - _MARGIN, ks)
    y = linear(_heights(drawn, marked, curves), bottom, _TOP)
    thin = [_thin(one, curves[one.index], x, y, by_k) for one in drawn if one not in marked]
    step = min(_SHIFT, _MAX_SPREAD / max(len(marked) - 1, 1))
    thick = [
        _thick(one, curves[one.index], x, y, by_k, step * (place - (len(marked) - 1) / 2)) for place, one in enumerate(marked)
    ]
    heading = text(0, 14, "Recall@k, %", class_="heading")
    described = f"Recall at {', '.join(map(str, ks))} of {len(drawn)} methods; the table above has the numbers"
    axes = [horizontal_axis(x, _TOP, bottom, "k (logarithmic)"), vertical_axis(y, _LEFT, right)]
    drawing = picture(_WIDTH, _HEIGHT, described, heading, *axes, *thin, *thick)
    return Figure(title, _caption(methods, list(by_k.values()), marked, len(thin), ks[0]), [drawing], legend=marked)


def _marked(drawn: Sequence[Method], curves: Mapping[int, _Curve]) -> list[Method]:
    """Return baselines and the trained methods with the highest recall at the smallest k, in the order of the table."""
    trained = sorted((one for one in drawn if one.row.trained), key=lambda one: -next(iter(curves[one.index].values())).mean)
    best = {one.index for one in trained[:MAX_MARKED]}
    return [one for one in drawn if one.index in best or not one.row.trained]


def _caption(methods: Sequence[Method], metrics: Sequence[str], marked: Sequence[Method], n_thin: int, k: int) -> str:
    scope = interval_scope(methods, metrics)
    sentences = [f"Means with 95 % intervals over {scope}." if scope else "One seed: no intervals."]
    if len(marked) > 1:
        sentences.append("Lines are shifted a little so that they do not hide each other.")
    if n_thin:
        best = sum(one.row.trained for one in marked)
        sentences.append(
            f"Coloured: the {best} trained methods with the highest R@{k}. Thin grey lines: the {n_thin} others, whose names "
            "appear under the pointer."
        )
    return " ".join(sentences)


def _heights(drawn: Sequence[Method], marked: Sequence[Method], curves: Mapping[int, _Curve]) -> list[float]:
    """Return all means and the ends of all drawn intervals, in percent."""
    means = [100 * cell.mean for one in drawn for cell in curves[one.index].values()]
    ends = [
        100 * (cell.mean + sign * cell.half_width)
        for one in marked
        for cell in curves[one.index].values()
        if cell.half_width is not None
        for sign in (-1, 1)
    ]
    return [*means, *(min(max(end, 0.0), 100.0) for end in ends)]


def _thin(method: Method, curve: _Curve, x: Scale, y: Scale, by_k: Mapping[int, str]) -> Markup:
    steps = path([(x(k), y(100 * cell.mean)) for k, cell in curve.items()], "base thin")
    return with_hint(_hint(method, curve, by_k), steps, **method.mark)


def _thick(method: Method, curve: _Curve, x: Scale, y: Scale, by_k: Mapping[int, str], shift: float) -> Markup:
    points = [(x(k) + shift, y(100 * cell.mean)) for k, cell in curve.items()]
    bars = [
        line(
            at, y(100 * (cell.mean - cell.half_width)), at, y(100 * (cell.mean + cell.half_width)), f"interval {method.colour}"
        )
        for (at, _), cell in zip(points, curve.values(), strict=True)
        if cell.half_width is not None
    ]
    marks = [marker(at, height, method.shape, method.colour) for at, height in points]
    return with_hint(_hint(method, curve, by_k), path(points, method.colour, method.dashes), *bars, *marks, **method.mark)


def _hint(method: Method, curve: _Curve, by_k: Mapping[int, str]) -> str:
    scores = "; ".join(f"R@{k}: {score_hint(method.row, by_k[k]).partition(';')[0]}" for k in curve)
    return f"{method.row.label}: {scores}"
