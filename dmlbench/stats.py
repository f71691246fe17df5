"""Floor 3: how sure a mean over seeds is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

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
    # Exact sums: seeds that agree to the last bit have a half width of 0, not of 1e-17.
    mean, n = statistics.mean(values), len(values)
    if n == 1:
        return mean, None
    from scipy.special import stdtrit  # half a second to load, which a table of single seeds never needs

    return mean, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) / math.sqrt(n)
