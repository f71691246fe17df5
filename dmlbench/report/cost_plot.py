"""The score of each method against its training time, with the Pareto front."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from dmlbench.report.figure import Figure, Method
from dmlbench.report.scales import Scale, horizontal_axis, linear, logarithmic, vertical_axis
from dmlbench.report.svg import marker, path, picture, text, with_hint
from dmlbench.results.formatting import format_duration, format_percent, metric_label
from dmlbench.tables.table import Table

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460.0, 320.0, 44.0, 12.0, 26.0, 42.0
_LOGARITHMIC = 10  # ratio of the longest to the shortest time from which the scale is logarithmic


@dataclass(frozen=True)
class _Point:
    method: Method
    seconds: float
    score: float


def cost_figure(table: Table, methods: Sequence[Method], metric: str) -> Figure:
    """Draw the score over the training time.

    Args:
        table: A table.
        methods: Its methods.
        metric: Metric of the vertical axis.
    """
    title = f"{metric_label(metric)} against training time"
    points = [
        _Point(one, seconds, 100 * cell.mean)
        for one in methods
        if (cell := one.row.cells.get(metric)) is not None and (seconds := _train_seconds(one))
    ]
    if not points:
        return Figure(title, "No trained method of this table has both a score and a training time.")
    front = _pareto_front(points)
    baselines = [one for one in methods if not one.row.trained and one.row.cells.get(metric) is not None]
    names = ", ".join(one.method.row.label for one in front)
    notes = "Means over seeds; tuning is not part of the time."
    if baselines:
        notes += " Dashed lines are baselines, which are not trained."
    machine = [note for note in table.notes if "time, speed and memory are not comparable" in note.lower()]
    caption = f"Filled markers and the stepped line: the Pareto front, which no method beats in both ({names}). {notes}"
    return Figure(title, " ".join([caption, *(f"{note}." for note in machine)]), [_drawn(points, front, baselines, metric)])


def _train_seconds(method: Method) -> float | None:
    """Return the mean training time; None for baselines, and if it is unknown for a seed."""
    values = [row.number("train_seconds") for row in method.row.rows]
    known = [value for value in values if value is not None and value > 0]
    return statistics.fmean(known) if method.row.trained and known and len(known) == len(values) else None


def _pareto_front(points: Sequence[_Point]) -> list[_Point]:
    """Return the points that no other point beats in one respect without being worse in the other; by time."""
    found: list[_Point] = []
    for point in sorted(points, key=lambda one: (one.seconds, -one.score)):
        if not found or point.score > found[-1].score:
            found.append(point)
    return found


def _drawn(points: Sequence[_Point], front: Sequence[_Point], baselines: Sequence[Method], metric: str) -> Markup:
    seconds = [one.seconds for one in points]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    far = max(seconds) > _LOGARITHMIC * min(seconds)
    x = logarithmic(seconds, _LEFT, right) if far else linear([0.96 * min(seconds), 1.1 * max(seconds)], _LEFT, right)
    levels = {one.index: 100 * cell.mean for one in baselines if (cell := one.row.cells.get(metric)) is not None}
    y = linear([*(one.score for one in points), *_near(levels.values(), points)], bottom, _TOP)
    steps = [(x(front[0].seconds), bottom)] if y.ticks else []
    for one in front:
        steps += [(x(one.seconds), steps[-1][1]), (x(one.seconds), y(one.score))]
    steps.append((right, steps[-1][1]))
    shown = [_baseline(one, levels[one.index], y, right) for one in baselines if y.low <= levels[one.index] <= y.high]
    labels = _label_places([(x(one.seconds), y(one.score), one.method.label) for one in points], steps, right)
    marks = [_mark(one, x, y, place, filled=one in front) for one, place in zip(points, labels, strict=True)]
    axes = [horizontal_axis(x, _TOP, bottom, "training time, s"), vertical_axis(y, _LEFT, right)]
    heading = text(0, 14, f"{metric_label(metric)}, %", class_="heading")
    described = f"{metric_label(metric)} over training time of {len(points)} methods; the table above has the numbers"
    return picture(_WIDTH, _HEIGHT, described, heading, *axes, *shown, path(steps[1:], "front"), *marks)


def _near(levels: Iterable[float], points: Sequence[_Point]) -> list[float]:
    """Return the levels of baselines that are not so far below the methods that these would be hard to distinguish."""
    low, high = min(one.score for one in points), max(one.score for one in points)
    return [level for level in levels if level >= low - (high - low)]


def _baseline(method: Method, level: float, y: Scale, right: float) -> Markup:
    parts = [
        path([(_LEFT, y(level)), (right, y(level))], "base", "5 4"),
        text(right, y(level) - 4, method.label, "end", "tick"),
    ]
    return with_hint(f"{method.row.label}: {format_percent(level / 100)} %", *parts, **method.mark)


def _mark(point: _Point, x: Scale, y: Scale, place: tuple[float, float, str], filled: bool) -> Markup:
    method = point.method
    name = text(place[0], place[1], method.label, place[2], "strong" if filled else None)
    hint = f"{method.row.label}: {point.score:.1f} % after {format_duration(point.seconds)}"
    return with_hint(hint, marker(x(point.seconds), y(point.score), method.shape, method.colour, filled), name, **method.mark)


def _label_places(
    points: Sequence[tuple[float, float, str]], front: Sequence[tuple[float, float]], right: float
) -> list[tuple[float, float, str]]:
    """Return the position and the anchor of each label, so that few of them overlap others, a marker, or the front."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in points]
    taken += [
        (min(x, other_x) - 2, min(y, other_y) - 2, max(x, other_x) + 2, max(y, other_y) + 2)
        for (x, y), (other_x, other_y) in pairwise(front)
    ]
    found = []
    for x, y, label in points:
        width = 7.2 * len(label)
        sides = [
            (x + 9, y + 4, "start"),
            (x - 9, y + 4, "end"),
            (x, y - 10, "middle"),
            (x, y + 19, "middle"),
            (x + 7, y - 8, "start"),
            (x + 7, y + 17, "start"),
            (x - 7, y - 8, "end"),
            (x - 7, y + 17, "end"),
        ]
        boxes = [_box(place, width) for place in sides]
        costs = [sum(_overlap(box, other) for other in taken) + _outside(box, right) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        found.append(sides[best])
    return found


Box = tuple[float, float, float, float]


def _box(place: tuple[float, float, str], width: float) -> Box:
    left = place[0] - {"start": 0.0, "end": width, "middle": width / 2}[place[2]]
    return left, place[1] - 10, left + width, place[1] + 3


def _overlap(one: Box, other: Box) -> float:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _outside(box: Box, right: float) -> float:
    return 100 * (
        max(_LEFT - box[0], 0) + max(box[2] - right, 0) + max(_TOP - 8 - box[1], 0) + max(box[3] - _HEIGHT + _BOTTOM, 0)
    )
