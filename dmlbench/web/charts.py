"""Charts as SVG without scripts or inline styles. Classes of the style sheet give the colours, so dark mode works."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

_ROW, _LEFT, _RIGHT, _WIDTH = 26, 210, 64, 720
_LABEL_LENGTH = 34


class Interval(NamedTuple):
    """One line of an interval chart: its label, the mean, and the half width of its interval or None."""

    label: str
    mean: float
    half_width: float | None


def interval_chart(title: str, intervals: Sequence[Interval], low: float, high: float, percent: bool = False) -> Markup:
    """Draw one point with its interval per line.

    Args:
        title: Title, also for screen readers.
        intervals: Lines from top to bottom.
        low: Left end of the axis.
        high: Right end of the axis.
        percent: Whether numbers are printed in percent.
    """
    height = _ROW * len(intervals) + 44
    parts = [_open(title, _WIDTH, height)]
    for step in range(6):
        value = low + (high - low) * step / 5
        x = _x(value, low, high)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{height - 32}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 14}" text-anchor="middle">{_number(value, percent)}</text>')
    for i, (label, mean, half) in enumerate(intervals):
        y = _ROW * i + 22
        text = f"{label}: {_number(mean, percent, 3)}" + (f" ± {_number(half, percent, 3)}" if half is not None else "")
        parts.append(f'<g class="point" tabindex="0"><title>{escape(text)}</title>')
        parts.append(f'<rect class="hover" x="0" y="{y - _ROW / 2}" width="{_WIDTH}" height="{_ROW}"/>')
        parts.append(f'<text class="name" x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(_short(label))}</text>')
        if half is not None:
            left, right = (_x(min(max(value, low), high), low, high) for value in (mean - half, mean + half))
            parts.append(f'<line class="interval" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{_x(mean, low, high):.1f}" cy="{y}" r="5"/>')
        parts.append(
            f'<text class="tick" x="{_WIDTH - 6}" y="{y + 4}" text-anchor="end">{_number(mean, percent, 3)}</text></g>'
        )
    return Markup("".join([*parts, "</svg>"]))


def scatter_chart(title: str, x_label: str, y_label: str, points: Sequence[tuple[str, float, float, float | None]]) -> Markup:
    """Draw one numbered point per model, with the interval of its vertical value, and a legend.

    Args:
        title: Title, also for screen readers.
        x_label: Name of the horizontal axis, whose values are fractions in [0, 1].
        y_label: Name of the vertical axis, whose values are in [0, 1].
        points: Label, horizontal value, vertical value, and half width of its interval or None.
    """
    wide, high, left = 430, 300, 52
    parts = [_open(title, _WIDTH, max(high + 60, 20 * len(points) + 30))]
    first = math.floor(10 * min(point[1] for point in points)) / 10
    last = max(math.ceil(10 * max(point[1] for point in points)) / 10, first + 0.1)

    def place(horizontal: float, vertical: float) -> tuple[float, float]:
        return left + wide * (horizontal - first) / (last - first), 12 + high * (1 - min(max(vertical, 0), 1))

    for step in range(6):
        value = first + (last - first) * step / 5
        x, y = place(value, step / 5)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + wide}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{step / 5:.1f}</text>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{high + 30}" text-anchor="middle">{100 * value:.0f}</text>')
    parts.append(f'<text class="tick" x="{left + wide / 2}" y="{high + 50}" text-anchor="middle">{escape(x_label)} in %</text>')
    parts.append(f'<text class="tick" x="{left + 4}" y="24">{escape(y_label)}</text>')
    for _, horizontal, vertical, half in points:
        (x, top), (_, bottom) = place(horizontal, vertical + (half or 0)), place(horizontal, vertical - (half or 0))
        parts.append(f'<line class="interval thin" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
    for number, (label, horizontal, vertical, _) in enumerate(points, 1):
        x, y = place(horizontal, vertical)
        text = f"{label}: {x_label} {100 * horizontal:.1f} %, {y_label} {vertical:.3f}"
        parts.append(f'<g class="point" tabindex="0"><title>{escape(text)}</title>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9"/>')
        parts.append(f'<text class="number" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{number}</text>')
        legend = f"{number}  {_short(label)}"
        parts.append(f'<text class="name" x="{left + wide + 22}" y="{20 * number + 6}">{escape(legend)}</text></g>')
    return Markup("".join([*parts, "</svg>"]))


def _open(title: str, width: int, height: int) -> str:
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>"
    )


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)


def _number(value: float, percent: bool, digits: int = 2) -> str:
    return f"{100 * value:.{digits - 2}f}" if percent else f"{value:.{digits}f}"


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_LENGTH else f"{label[: _LABEL_LENGTH - 1]}…"
