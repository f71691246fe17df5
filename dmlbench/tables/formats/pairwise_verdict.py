"""The verdict of a comparison of two methods in a sentence or two, and the formats of its numbers and names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import format_difference, format_value, metric_label
from dmlbench.results.row import Row
from dmlbench.system.terminal import printable
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.confidence import CONFIDENCE
from dmlbench.tables.formats.text import shorten
from dmlbench.tables.metric_difference import Difference
from dmlbench.tables.pairwise import Comparison
from dmlbench.tables.significance_notes import LEVEL_IN_PRINT, model_statement, power_remark

_MAX_NAMED_VALUES = 2
_MAX_VALUE_LENGTH = 40


def verdict(comparison: Comparison) -> str:
    """Say in a sentence or two which method is better, by how much, and how certain that is.

    Every difference is A - B, whichever is better.

    Args:
        comparison: Comparison of two methods.
    """
    first = comparison.differences[0]
    what = metric_label(first.metric)
    a, b = (f"{side} ({name})" for side, name in zip("AB", _distinct_names(comparison), strict=True))
    if comparison.other_data:
        return f"{a} and {b} cannot be compared in {what}: {comparison.other_data}."
    difference = f"A - B = {format_difference(first.value)} points"
    if first.half_width is None or first.p is None:
        return f"{_higher(first, a, b)} in {what}: {difference}. Significance was not tested: {first.untested}."
    tested = f"{difference}, {100 * CONFIDENCE:.0f} % interval {format_interval(first)}, {format_p(first.p, 'p = ')}"
    if first.better:
        better, other = (a, b) if first.better == "a" else (b, a)
        found = f"{better} is significantly better than {other} in {what} ({LEVEL_IN_PRINT})"
    else:
        found = f"No significant difference between {a} and {b} in {what} ({LEVEL_IN_PRINT})"
    n_classes = f"{len(comparison.classes)} classes"
    if first.basis == "classes only":
        statement = model_statement((*comparison.a, *comparison.b), by_seed=False)
        return f"{found}: {tested}, n = {n_classes}. Because {first.untested}, {statement}."
    n_seeds = len(comparison.a)
    power = "" if first.better else power_remark(n_seeds, (*comparison.a, *comparison.b))
    return f"{found}: {tested}, n = {n_seeds} seeds, {n_classes}{power}."


def _higher(one: Difference, a: str, b: str) -> str:
    """Return which mean is higher."""
    if not one.value:
        return f"{a} and {b} are equal"
    return f"{a} scores higher than {b}" if one.value > 0 else f"{b} scores higher than {a}"


def format_interval(one: Difference) -> str:
    """Format the 95 % interval of a difference in percentage points.

    Args:
        one: Difference that was tested.
    """
    assert one.half_width is not None
    low, high = (format_difference(one.value + sign * one.half_width).lstrip("+") for sign in (-1, 1))
    return f"[{low}, {high}]"


def format_p(p: float, before: str = "") -> str:
    """Format a p-value.

    Args:
        p: p-value.
        before: Prefix such as `p = `, whose equals sign becomes `<` for very small values.

    >>> format_p(0.0421), format_p(0.5, "p = "), format_p(1e-9, "p = ")
    ('0.042', 'p = 0.50', 'p < 0.001')
    """
    if p < 0.001:
        return before.replace("=", "<") + "0.001" if before else "< 0.001"
    return f"{before}{p:.3f}" if p < 0.1 else f"{before}{p:.2f}"


def method_name(rows: Sequence[Row]) -> str:
    """Return the name of a method in print.

    Args:
        rows: Its rows.
    """
    return printable(rows[0].get("loss_label") or rows[0]["loss"])


def _distinct_names(comparison: Comparison) -> tuple[str, str]:
    """Return the names of both methods; equal names are extended by the first values in which the methods differ."""
    names = method_name(comparison.a), method_name(comparison.b)
    if names[0] != names[1]:
        return names
    pairs = {**comparison.method, **comparison.not_comparable}
    pairs = {name: values for name, values in pairs.items() if ABSENT not in values}
    # Of several columns with the same two values, only the first is named.
    first_with_values = {repr(values): name for name, values in reversed(pairs.items())}
    named = [name for name in pairs if name in first_with_values.values()][:_MAX_NAMED_VALUES]
    a, b = ([f"{short_column(name)} {short_value(pairs[name][side])}" for name in named] for side in (0, 1))
    return ", ".join([names[0], *a]), ", ".join([names[1], *b])


def short_column(name: str) -> str:
    """Return the name of a hyper-parameter without its prefix.

    Args:
        name: Name of the column.
    """
    return re.sub("^loss_(make_)?", "", name)


def short_value(value: Scalar) -> str:
    """Format a value briefly; a dotted path is reduced to its last part.

    Args:
        value: Value of a column.
    """
    text = format_value(value)
    return text.rpartition(".")[2] if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", text) else shorten(text, _MAX_VALUE_LENGTH)
