"""Confidence interval of a mean over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

CONFIDENCE = 0.95


def t_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Compute the mean of some values and the half width of its 95 % Student t interval (ddof 1).

    Args:
        values: One finite number per seed; at least one.

    Returns:
        Mean and half width, in the unit of the values. The half width of a single value is None.

    Raises:
        ValueError: There is no value.

    >>> t_interval([0.5])
    (0.5, None)
    >>> mean, half_width = t_interval([0.4, 0.5, 0.6])
    >>> round(mean, 4), round(half_width, 4)
    (0.5, 0.2484)
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    n = len(values)
    if n == 1:
        return values[0], None
    if min(values) == max(values):  # otherwise, rounding could give equal values a half width of 1e-17
        return values[0], 0.0
    mean = math.fsum(values) / n  # `statistics` computes with fractions, which is too slow for thousands of rows
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, t_quantile(n - 1) * math.sqrt(variance / n)


@cache
def t_quantile(degrees_of_freedom: int) -> float:
    """Compute the two-sided quantile of Student's t distribution: |t| is below it with probability `CONFIDENCE`.

    scipy is not used because importing it takes a third of a second.

    Args:
        degrees_of_freedom: Degrees of freedom, at least 1.

    Source:
        Abramowitz & Stegun, Handbook of mathematical functions, 1964, 26.7.3 and 26.7.4.

    >>> round(t_quantile(2), 4)
    4.3027
    """
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        if _central_probability(angle, degrees_of_freedom) < CONFIDENCE:
            low = angle
        else:
            high = angle
    return math.sqrt(degrees_of_freedom) * math.tan(angle)


def _central_probability(angle: float, degrees_of_freedom: int) -> float:
    """Return the probability that |t| is below sqrt(degrees_of_freedom) * tan(angle)."""
    cosine, odd = math.cos(angle), degrees_of_freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for power in range(odd, degrees_of_freedom - 1, 2):  # powers of the cosine
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
