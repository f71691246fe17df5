"""Format the values of rows for printing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.metric_specs import MetricColumn, parse_metric

_HEX_DIGEST = re.compile(r"[0-9a-f]{16,}")
_MAX_SEEDS = 10


def format_value(value: Scalar) -> str:
    """Format the value of a column; digests are cut to eight digits.

    Args:
        value: Value of the column.

    >>> format_value(None), format_value(0.0001), format_value("0123456789abcdef0123")
    ('none', '0.0001', '01234567')
    """
    text = "none" if value is None else str(value)
    return text[:8] if _HEX_DIGEST.fullmatch(text) else text


def format_seeds(seeds: Sequence[int]) -> str:
    """Format a list of seeds; a long list is reduced to its range.

    Args:
        seeds: At least one seed, ascending.

    >>> format_seeds([0]), format_seeds([0, 1, 4]), format_seeds(range(20))
    ('seed 0', 'seeds 0, 1, 4', '20 seeds from 0 to 19')
    """
    if len(seeds) > _MAX_SEEDS:
        return f"{len(seeds)} seeds from {min(seeds)} to {max(seeds)}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def format_percent(value: float, digits: int = 1) -> str:
    """Format a fraction as percent, without the percent sign.

    Args:
        value: Fraction.
        digits: Decimals.

    >>> format_percent(0.3333)
    '33.3'
    """
    return f"{100 * value:.{digits}f}"


def format_difference(value: float, digits: int = 1) -> str:
    """Format a difference of fractions in percentage points, with its sign unless it rounds to zero.

    Args:
        value: Difference of two fractions.
        digits: Decimals.

    >>> format_difference(0.0321), format_difference(-0.0001)
    ('+3.2', '0.0')
    """
    text = f"{100 * value:+.{digits}f}"
    return text if float(text) else text[1:]


def metric_label(metric: str) -> str:
    """Return the name of a metric in print.

    Args:
        metric: Name of its column.
    """
    return metric_column(metric).label


def metric_column(metric: str) -> MetricColumn:
    """Parse the name of a metric's column.

    Args:
        metric: Name of the column.

    Raises:
        KeyError: The column is not a metric.
    """
    found = parse_metric(metric)
    if found is None:
        raise KeyError(metric)
    return found
