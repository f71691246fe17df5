"""How sure a mean over seeds is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

CONFIDENCE = 0.95


def t_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean of some values and the half width of its 95 % Student t interval (ddof 1).

    Args:
        values: one finite number a seed, at least one.

    Returns:
        The mean, and half the width of the interval around it, both in the values' unit; None in place of the
        half width where there is one value only, for one value says nothing of the spread.

    Raises:
        ValueError: there is no value.

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
    if min(values) == max(values):  # seeds that agree to the last bit have a half width of 0, not of 1e-17
        return values[0], 0.0
    mean = math.fsum(values) / n  # not `statistics`: its fractions take most of the time of a table of thousands of rows
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, t_quantile(n - 1) * math.sqrt(variance / n)


@cache
def t_quantile(freedom: int) -> float:
    """The number within which, on both sides of 0, Student's t lies with the probability `CONFIDENCE`.

    Not scipy's, which takes a third of a second to load.

    Args:
        freedom: degrees of freedom, at least 1.

    Source:
        Abramowitz & Stegun, Handbook of mathematical functions, 1964, 26.7.3 and 26.7.4.

    >>> round(t_quantile(2), 4)
    4.3027
    """
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        if _t_within(angle, freedom) < CONFIDENCE:
            low = angle
        else:
            high = angle
    return math.sqrt(freedom) * math.tan(angle)


def _t_within(angle: float, freedom: int) -> float:
    """How likely |t| is below sqrt(freedom) tan(angle)."""
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for power in range(odd, freedom - 1, 2):  # of the cosine
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
