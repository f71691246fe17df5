"""Scales between values and coordinates, with round numbers at their ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dmlbench.report.svg import line, text

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Scale:
    """A map from values to coordinates.

    Args:
        low: Value at `start`.
        high: Value at `end`, larger than `low`.
        start: Coordinate of `low`.
        end: Coordinate of `high`.
        ticks: Values with a tick.
        logarithmic: Whether equal ratios have equal lengths; then values are positive.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value.

        Args:
            value: Value; those outside are moved to the nearest end.
        """
        low, high, inside = self.low, self.high, min(max(value, self.low), self.high)
        share = math.log(inside / low) / math.log(high / low) if self.logarithmic else (inside - low) / (high - low)
        return self.start + share * (self.end - self.start)


def linear(values: Iterable[float], start: float, end: float, n_ticks: int = 5, whole: bool = False) -> Scale:
    """Return a linear scale that covers some values and begins and ends at ticks.

    Args:
        values: Finite values.
        start: Coordinate of the smallest value.
        end: Coordinate of the largest value.
        n_ticks: Approximate number of ticks.
        whole: Whether ticks are whole numbers.

    >>> linear([41, 58], 0, 100).ticks
    (40, 45, 50, 55, 60)
    """
    found = list(values)
    low, high = min(found, default=0.0), max(found, default=1.0)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        middle, half = (low + high) / 2, max(abs(low), abs(high), 1e-3) * 0.05
        low, high = middle - half, middle + half
    step = _round_step((high - low) / max(n_ticks - 1, 1))
    step = max(1.0, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, tuple(int(one) if one == int(one) else one for one in ticks))


def _round_step(at_least: float) -> float:
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(step * power for step in _STEPS if step * power >= at_least * (1 - 1e-9))


def logarithmic(values: Sequence[float], start: float, end: float, ticks: Sequence[float] = ()) -> Scale:
    """Return a logarithmic scale.

    Args:
        values: Positive values, at least one.
        start: Coordinate of the smallest value.
        end: Coordinate of the largest value.
        ticks: Values with a tick; empty for 1, 2 and 5 times powers of ten.

    >>> logarithmic([3, 70], 0, 100).ticks
    (5, 10, 20, 50)
    """
    low, high = min(values), max(values)
    if not ticks:
        low, high = low / 1.15, high * 1.15
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [one for power in powers for digit in (1, 2, 5) if low <= (one := _plain(digit * 10.0**power)) <= high]
    if high <= low:
        low, high = low / 2, high * 2
    return Scale(low, high, start, end, tuple(ticks), logarithmic=True)


def _plain(value: float) -> float:
    return int(value) if value >= 1 else float(f"{value:.6g}")


def horizontal_axis(scale: Scale, top: float, bottom: float, label: str) -> Markup:
    """Return vertical grid lines with their numbers below, and the name of the axis.

    Args:
        scale: Scale of the axis.
        top: Vertical coordinate at which grid lines begin.
        bottom: Vertical coordinate at which they end.
        label: Name of the axis.
    """
    parts = [line(scale(tick), top, scale(tick), bottom, "grid") for tick in scale.ticks]
    labels = zip(scale.ticks, tick_labels(scale.ticks), strict=True)
    parts += [text(scale(tick), bottom + 14, label_, "middle", "tick") for tick, label_ in labels]
    parts.append(text((scale.start + scale.end) / 2, bottom + 31, label, "middle"))
    return Markup("").join(parts)


def vertical_axis(scale: Scale, left: float, right: float) -> Markup:
    """Return horizontal grid lines with their numbers on the left.

    Args:
        scale: Scale of the axis.
        left: Horizontal coordinate at which grid lines begin.
        right: Horizontal coordinate at which they end.
    """
    parts = [line(left, scale(tick), right, scale(tick), "grid") for tick in scale.ticks]
    labels = zip(scale.ticks, tick_labels(scale.ticks), strict=True)
    parts += [text(left - 6, scale(tick) + 4, label, "end", "tick") for tick, label in labels]
    return Markup("").join(parts)


def tick_labels(values: Sequence[float]) -> list[str]:
    """Format the numbers at the ticks of an axis, with the same number of decimals.

    Args:
        values: Numbers.

    >>> tick_labels([1500, 2000]), tick_labels([37.5, 40])
    (['1,500', '2,000'], ['37.5', '40.0'])
    """
    texts = [f"{value:.6g}" for value in values]
    if any("e" in one for one in texts):
        return texts
    decimals = max((len(one.partition(".")[2]) for one in texts), default=0)
    return [f"{value:,.{decimals}f}" for value in values]
