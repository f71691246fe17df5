"""The score of each method against its training time, with the Pareto front."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dmlbench.report.figure import Figure, Method
from dmlbench.report.label_places import Area, Label, Place, label_places
from dmlbench.report.scales import Scale, horizontal_axis, linear, logarithmic, vertical_axis
from dmlbench.report.svg import line, marker, path, picture, text, with_hint
from dmlbench.results.formatting import format_duration, format_percent, metric_label
from dmlbench.tables.table import Table

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460.0, 320.0, 44.0, 12.0, 26.0, 42.0
_HEADROOM = 30.0  # above the axis, for labels of many methods
MAX_LABELLED = 10  # methods, besides those on the Pareto front
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
    levels = {
        one.index: 100 * cell.mean for one in methods if not one.row.trained and (cell := one.row.cells.get(metric)) is not None
    }
    near = _near(levels, points).values()
    y = linear([*(one.score for one in points), *near], _HEIGHT - _BOTTOM, _TOP + _HEADROOM * (len(points) > MAX_LABELLED))
    inside = {index: level for index, level in levels.items() if y.low <= level <= y.high}
    names = ", ".join(one.method.row.label for one in front)
    sentences = [f"Filled markers and the stepped line: the Pareto front, which no method beats in both ({names})."]
    sentences.append("Means over seeds; tuning is not part of the time.")
    drawn, n_unnamed = _drawn(points, front, [(one, inside[one.index]) for one in methods if one.index in inside], y, metric)
    if n_unnamed:
        which = "1 marker has no name" if n_unnamed == 1 else f"{n_unnamed} markers have no names"
        sentences.append(f"{which} for lack of room: point at a marker, or at a row of the table, to see its name.")
    if inside:
        sentences.append("Dashed lines are baselines, which are not trained.")
    outside = [f"{one.row.label} ({levels[one.index]:.1f} %)" for one in methods if one.index in levels.keys() - inside.keys()]
    if outside:
        sentences.append(f"Outside of the picture: {', '.join(outside)}.")
    sentences += [f"{note}." for note in table.notes if "time, speed and memory are not comparable" in note.lower()]
    return Figure(title, " ".join(sentences), [drawn])


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


def _near(levels: Mapping[int, float], points: Sequence[_Point]) -> dict[int, float]:
    """Return the levels of baselines that are not so far below the methods that these would be hard to distinguish."""
    low, high = min(one.score for one in points), max(one.score for one in points)
    return {index: level for index, level in levels.items() if level >= low - (high - low)}


def _drawn(
    points: Sequence[_Point], front: Sequence[_Point], baselines: Sequence[tuple[Method, float]], y: Scale, metric: str
) -> tuple[Markup, int]:
    """Return the picture, and the number of methods without a visible name."""
    seconds = [one.seconds for one in points]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    far = max(seconds) > _LOGARITHMIC * min(seconds)
    x = logarithmic(seconds, _LEFT, right) if far else linear([0.96 * min(seconds), 1.1 * max(seconds)], _LEFT, right)
    steps = [(x(front[0].seconds), bottom)]
    for one in front:
        steps += [(x(one.seconds), steps[-1][1]), (x(one.seconds), y(one.score))]
    steps.append((right, steps[-1][1]))
    levels = [_baseline(method, level, y, right) for method, level in baselines]
    places = label_places(_labels(points, front, x, y), steps, Area(_LEFT, _TOP - 8, right, bottom))
    marks = [_mark(one, x, y, place, filled=one in front) for one, place in zip(points, places, strict=True)]
    axes = [horizontal_axis(x, _TOP, bottom, "training time, s"), vertical_axis(y, _LEFT, right)]
    heading = text(0, 14, f"{metric_label(metric)}, %", class_="heading")
    described = f"{metric_label(metric)} over training time of {len(points)} methods; the table above has the numbers"
    drawn = picture(_WIDTH, _HEIGHT, described, heading, *axes, *levels, path(steps[1:], "front"), *marks)
    return drawn, sum(not place.visible for place in places)


def _labels(points: Sequence[_Point], front: Sequence[_Point], x: Scale, y: Scale) -> list[Label]:
    """Return the labels; those on the Pareto front are visible, and of the others the best ones that have room."""
    best = sorted((one for one in points if one not in front), key=lambda one: -one.score)[:MAX_LABELLED]
    few = len(points) <= MAX_LABELLED
    return [
        Label(x(one.seconds), y(one.score), one.method.label, rank=0 if one in front or few else 1 + (one not in best))
        for one in points
    ]


def _baseline(method: Method, level: float, y: Scale, right: float) -> Markup:
    parts = [
        path([(_LEFT, y(level)), (right, y(level))], "base", "5 4"),
        text(right, y(level) - 4, method.label, "end", "tick"),
    ]
    return with_hint(f"{method.row.label}: {format_percent(level / 100)} %", *parts, **method.mark)


def _mark(point: _Point, x: Scale, y: Scale, place: Place, filled: bool) -> Markup:
    method = point.method
    class_ = "strong" if filled else None if place.visible else "on-demand"
    name = text(place.x, place.y, method.label, place.anchor, class_)
    if place.far and place.visible:
        name = line(x(point.seconds), y(point.score), place.x, place.y - 4, "leader base") + name
    hint = f"{method.row.label}: {point.score:.1f} % after {format_duration(point.seconds)}"
    return with_hint(hint, marker(x(point.seconds), y(point.score), method.shape, method.colour, filled), name, **method.mark)
