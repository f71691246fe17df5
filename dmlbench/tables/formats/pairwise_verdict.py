"""The verdict of a comparison of two methods in a sentence or two, and the formats of its numbers and names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import format_difference, format_value, metric_label
from dmlbench.results.row import Row
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.bold import FEW_SEEDS
from dmlbench.tables.formats.text import printable, shorten
from dmlbench.tables.metric_difference import Difference
from dmlbench.tables.pairwise import DATA, Comparison

_MAX_NAMED_VALUES = 2
_MAX_VALUE_LENGTH = 40


def verdict(comparison: Comparison) -> str:
    """Say in a sentence or two which method is better, by how much, and how certain that is.

    Args:
        comparison: Comparison of two methods.
    """
    first = comparison.differences[0]
    what = metric_label(first.metric)
    a, b = (f"{side} ({name})" for side, name in zip("AB", _distinct_names(comparison), strict=True))
    if not comparison.not_comparable.keys().isdisjoint(DATA):
        points = format_difference(first.value)
        return f"{a} and {b} were evaluated on different images, so the difference of {points} points in {what} is meaningless."
    leader, other = (a, b) if first.value < 0 else (b, a)
    n_classes = f"{len(comparison.classes)} classes"
    if first.basis == "seeds and classes":
        n = f"n = {len(comparison.a)} seeds, {n_classes}"
        if first.better:
            return f"{leader} is better than {other} in {what}: {_lead(first)}, {n}."
        few = "; so few seeds give the test little power" if len(comparison.a) <= FEW_SEEDS else ""
        return f"No significant difference between {a} and {b} in {what}: B - A is {_numbers(first)}, {n}{few}."
    ahead = f"{leader} scores higher than {other} in {what}: {_lead(first)}" if first.value else f"A and B are equal in {what}"
    if first.basis == "none":
        return f"{ahead}; significance was not tested: {first.untested}."
    if not first.better and first.value:
        ahead = f"No significant difference between {a} and {b} in {what}: B - A is {_numbers(first)}"
    limits = f"The test covers class variance only; seed variance is not accounted for ({first.untested})"
    return f"{ahead}, over {n_classes}. {limits}."


def _numbers(one: Difference) -> str:
    """Write the difference with its interval and p-value, if it was tested."""
    points = f"{format_difference(one.value)} points"
    if one.half_width is None or one.p is None:
        return points
    return f"{points} {format_interval(one)}, {format_p(one.p, 'p = ')}"


def _lead(one: Difference) -> str:
    """Write the difference with a positive sign, as the lead of the method with the higher mean."""
    return _numbers(one if one.value >= 0 else dataclasses.replace(one, a=one.b, b=one.a))


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
