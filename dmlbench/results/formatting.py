"""Format the values of rows for printing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.metric_specs import MetricColumn, parse_metric

_HEX_DIGEST = re.compile(r"[0-9a-f]{16,}")
_METHOD_REFERENCE = re.compile(r"\$\{\.*loss\.([\w.]+)\}")
_MAX_SEEDS = 10
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def format_value(value: Scalar) -> str:
    """Format the value of a column; digests are cut to eight digits.

    Args:
        value: Value of the column.

    >>> format_value(None), format_value(0.0001), format_value("0123456789abcdef0123")
    ('none', '0.0001', '01234567')
    >>> format_value("${loss.samples_per_class}")
    'loss.samples_per_class'
    """
    text = "none" if value is None else str(value)
    if found := _METHOD_REFERENCE.fullmatch(text):
        return f"loss.{found[1]}"
    return text[:8] if _HEX_DIGEST.fullmatch(text) else text


def referenced_column(value: Scalar) -> str | None:
    """Return the column of the method to which a shared column refers, whose own value is the same for all methods.

    Args:
        value: Value of a shared column.

    >>> referenced_column("${loss.make.margin}"), referenced_column("adamw")
    ('loss_make_margin', None)
    """
    found = _METHOD_REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return f"loss_{found[1].replace('.', '_')}" if found else None


def spreadsheet_cell(value: Scalar) -> Scalar:
    """Return a value for a CSV file. Text that a spreadsheet would read as a formula gets a leading apostrophe.

    Args:
        value: Value of a column.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("-0.5"), spreadsheet_cell(-0.5), spreadsheet_cell("a=b")
    ("'=1+1", '-0.5', -0.5, 'a=b')
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA_STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


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


def selected_by(metric: Scalar, clusters_per_class: Scalar = 1) -> str:
    """Return the metric on which models were selected, a clause for `best epoch on held-out training classes`.

    Args:
        metric: Value of `protocol.selection_metric`; None in rows of earlier versions.
        clusters_per_class: Value of `protocol.clusters_per_class`.

    Returns:
        The clause with a space before it; empty for MAP@R, the default.

    >>> selected_by("purity", 3), selected_by("map_at_r")
    (' by Purity (3 clusters per class)', '')
    """
    if metric in (None, "map_at_r") or (found := parse_metric(str(metric))) is None:
        return ""
    plural = "s" if clusters_per_class != 1 else ""
    return f" by {found.label}" + f" ({clusters_per_class} cluster{plural} per class)" * (found.spec.kind == "clustering")


def format_duration(seconds: float) -> str:
    """Format a duration in the largest unit that fits.

    Args:
        seconds: Duration in seconds.

    >>> format_duration(40), format_duration(4000), format_duration(100_000)
    ('40 s', '67 min', '27.8 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
