"""A critical-difference diagram: methods in order of their scores, with bars that join those that do not differ significantly.

Demšar's diagram has mean ranks over data sets on its axis and one critical difference for all pairs. Here, the axis is the
metric, and each pair is tested as in tables, over seeds and classes (or groups of classes), so that bars agree with bold
numbers.

Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from dmlbench.report.figure import Figure, Method, label_width, score_hint
from dmlbench.report.pair_tests import PairTests
from dmlbench.report.scales import Scale, horizontal_axis, linear
from dmlbench.report.svg import element, line, marker, picture, text, with_hint
from dmlbench.results.formatting import format_percent, metric_label

_PLOT, _RIGHT, _ROW, _TOP, _BAR = 240.0, 44.0, 22.0, 6.0, 13.0


def critical_difference_figure(tests: PairTests, metric: str) -> Figure:
    """Draw the diagram.

    Args:
        tests: Tests of all pairs.
        metric: Tested metric.
    """
    title = f"Critical-difference diagram, {metric_label(metric)}"
    if tests.untested:
        return Figure(title, f"No diagram, because nothing was tested: {tests.untested}.")
    groups = tests.groups()
    left = label_width(tests.methods)
    scale = linear([100 * mean for mean in tests.means], left, left + _PLOT, n_ticks=4)
    heights = {one.index: _TOP + _ROW * (place + 0.5) for place, one in enumerate(tests.methods)}
    bottom = _TOP + _ROW * len(heights)
    width = scale.end + _RIGHT + _BAR * len(groups)
    rows = [_row(one, mean, scale, heights[one.index], metric) for one, mean in zip(tests.methods, tests.means, strict=True)]
    bars = [_bar(group, scale.end + _RIGHT + _BAR * (place + 0.5), heights) for place, group in enumerate(groups)]
    axis = horizontal_axis(scale, _TOP, bottom, f"{metric_label(metric)}, %")
    described = "; ".join(", ".join(one.row.label for one in group) for group in groups) or "all pairs differ significantly"
    drawn = picture(width, bottom + 38, f"Groups without a significant difference: {described}", axis, *rows, *bars)
    return Figure(title, _caption(tests, bool(groups)), [drawn])


def _caption(tests: PairTests, has_groups: bool) -> str:
    sentence = "Trained methods from best to worst. "
    if len(tests.methods) < tests.n_tested:
        sentence = f"The best {len(tests.methods)} of {tests.n_tested} trained methods. "
    bars = "A bar joins methods (dots) of which no two differ significantly" if has_groups else "All pairs differ significantly"
    return f"{sentence}{bars} (5 % level, Tukey's studentised range over {tests.n_tested} methods)."


def _row(method: Method, mean: float, scale: Scale, y: float, metric: str) -> Markup:
    x = scale(100 * mean)
    parts = [
        text(scale.start - 10, y + 4, method.label, "end"),
        line(scale.start, y, x, y, f"lead {method.colour}"),
        marker(x, y, method.shape, method.colour),
        text(scale.end + _RIGHT - 4, y + 4, format_percent(mean), "end", "value"),
    ]
    return with_hint(f"{method.row.label}: {score_hint(method.row, metric)}", *parts, **method.mark)


def _bar(group: list[Method], x: float, heights: Mapping[int, float]) -> Markup:
    places = [heights[one.index] for one in group]
    dots = [element("circle", cx=x, cy=y, r=3.5, class_="ink") for y in places]
    hint = f"No two of these differ significantly: {', '.join(one.row.label for one in group)}"
    return with_hint(hint, line(x, min(places), x, max(places), "join"), *dots)
