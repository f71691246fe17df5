"""Charts without scripts or inline styles. Classes of the style sheet give the colours, so dark mode works.

Names, titles and legends are text of the page, which wraps on narrow screens; only points, lines and axes are SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from dmlbench.report.svg import element, line, picture, text, with_hint

_STEPS = 5
# Of the scatter chart, in pixels at its natural size.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 440.0, 340.0, 52.0, 12.0, 10.0, 46.0
_DOT, _GAP = 4.0, 15.0  # radius of a point; least distance of two numbers


class Interval(NamedTuple):
    """One line of an interval chart: its label, the mean, and the half width of its interval or None."""

    label: str
    mean: float
    half_width: float | None


class Point(NamedTuple):
    """One point of a scatter chart: its label, both values, and the half width of the vertical interval or None."""

    label: str
    x: float
    y: float
    half_width: float | None


def interval_chart(title: str, intervals: Sequence[Interval], low: float, high: float, percent: bool = False) -> Markup:
    """Draw one point with its interval per line.

    Args:
        title: Title.
        intervals: Lines from top to bottom.
        low: Left end of the axis.
        high: Right end of the axis.
        percent: Whether numbers are printed in percent.
    """

    def x(value: float) -> str:
        return f"{100 * (min(max(value, low), high) - low) / (high - low):.2f}%"

    values = [low + (high - low) * step / _STEPS for step in range(_STEPS + 1)]
    grid = [element("line", x1=x(value), x2=x(value), y1=0, y2="100%", class_="grid") for value in values]
    rows = []
    for label, mean, half in intervals:
        parts = [*grid, element("circle", cx=x(mean), cy=12, r=5)]
        if half is not None:
            parts.insert(-1, element("line", x1=x(mean - half), x2=x(mean + half), y1=12, y2=12, class_="interval"))
        spread = "" if half is None else f" ± {_number(half, percent, 3)}"
        bar = element("svg", element("title", f"{_number(mean, percent, 3)}{spread}"), *parts, class_="bar", role="img")
        name, number = element("th", label, scope="row"), element("td", _number(mean, percent, 3), class_="number")
        rows.append(element("tr", name, element("td", bar, class_="plot"), number))
    anchors = ["start", *["middle"] * (_STEPS - 1), "end"]
    ticks = [
        element("text", _number(value, percent), x=x(value), y=14, text_anchor=anchor, class_="tick")
        for value, anchor in zip(values, anchors, strict=True)
    ]
    axis = element("svg", *ticks, class_="bar", aria_hidden="true")
    last = element("tr", element("th", Markup("&nbsp;")), element("td", axis, class_="plot"), element("td", Markup("&nbsp;")))
    return _figure(title, element("table", element("tbody", *rows, last), class_="intervals"))


def scatter_chart(title: str, x_label: str, y_label: str, points: Sequence[Point]) -> Markup:
    """Draw one numbered point per model, with the interval of its vertical value, and a legend.

    Args:
        title: Title.
        x_label: Name of the horizontal axis, whose values are fractions in [0, 1].
        y_label: Name of the vertical axis, whose values are in [0, 1].
        points: Points.
    """
    first = math.floor(10 * min(point.x for point in points)) / 10
    last = max(math.ceil(10 * max(point.x for point in points)) / 10, first + 0.1)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place(horizontal: float, vertical: float) -> tuple[float, float]:
        x = _LEFT + (right - _LEFT) * (horizontal - first) / (last - first)
        return x, bottom - (bottom - _TOP) * min(max(vertical, 0), 1)

    parts = []
    for step in range(_STEPS + 1):
        value = first + (last - first) * step / _STEPS
        x, y = place(value, step / _STEPS)
        parts += [line(_LEFT, y, right, y, "grid"), text(_LEFT - 6, y + 4, f"{step / _STEPS:.1f}", "end", "tick")]
        parts.append(text(x, bottom + 18, f"{100 * value:.0f}", "middle", "tick"))
    parts.append(text((_LEFT + right) / 2, _HEIGHT - 8, f"{x_label} in %", "middle"))
    parts.append(element("text", y_label, transform=f"translate(14 {(_TOP + bottom) / 2}) rotate(-90)", text_anchor="middle"))
    for point in points:
        x, y = place(point.x, point.y)
        half = point.half_width or 0
        parts.append(line(x, place(0, point.y + half)[1], x, place(0, point.y - half)[1], "interval thin"))
    dots = [place(point.x, point.y) for point in points]
    for number, (point, dot, beside) in enumerate(zip(points, dots, _beside(dots), strict=True), 1):
        hint = f"{point.label}: {x_label} {100 * point.x:.1f} %, {y_label} {point.y:.3f}"
        circle = element("circle", cx=dot[0], cy=dot[1], r=_DOT)
        shown = text(beside[0], beside[1] + 4, str(number), "middle", "strong")
        parts.append(with_hint(hint, line(*dot, *beside, "leader"), circle, shown, class_="point"))
    legend = element("ol", *(element("li", point.label) for point in points), class_="legend")
    return _figure(title, picture(_WIDTH, _HEIGHT, title, *parts, class_="chart"), legend)


def _beside(dots: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Return a position for the number of each point, as near as other numbers and points allow."""
    taken: list[tuple[float, float]] = []
    for x, y in dots:
        around = [
            (x + radius * math.cos(angle * math.pi / 8), y - radius * math.sin(angle * math.pi / 8))
            for radius in (13, 20, 28, 38, 50)
            for angle in (2, 0, 4, 6, 14, 8, 10, 12, 1, 3, 5, 7, 9, 11, 13, 15)
        ]
        inside = [one for one in around if _LEFT + 6 < one[0] < _WIDTH - 8 and _TOP + 4 < one[1] < _HEIGHT - _BOTTOM - 6]
        free = (
            one
            for one in inside
            if all(math.dist(one, other) >= _GAP for other in taken)
            and all(math.dist(one, other) >= _DOT + 8 for other in dots)
        )
        taken.append(next(free, (inside or around)[0]))
        yield taken[-1]


def _figure(title: str, *parts: Markup) -> Markup:
    return element("figure", element("figcaption", element("strong", title)), *parts)


def _number(value: float, percent: bool, digits: int = 2) -> str:
    return f"{100 * value:.{digits - 2}f}" if percent else f"{value:.{digits}f}"
