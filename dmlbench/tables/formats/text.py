"""Plain text for a terminal: at most 100 columns, no control characters, aligned columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from dmlbench.system.terminal import printable

WIDTH = 100
NO_BREAK = "\u00a0"  # a space at which no line is broken
_KEPT_TOGETHER = re.compile(" (=|<|->|±) ")  # these stay on one line with their neighbours
_BARS = "▁▂▃▄▅▆▇█"
_MAX_BARS = 40
_LARGEST = 1e300  # the range of larger numbers is not a float


def shorten(text: object, width: int) -> str:
    """Shorten text; an ellipsis replaces the rest.

    Args:
        text: Text, or any object.
        width: Maximum number of characters.

    >>> shorten("black_footed_albatross", 10)
    'black_foo…'
    """
    found = printable(text)
    return found if len(found) <= width else found[: width - 1] + "…"


def wrap(text: str, indent: str = "", first: str | None = None, max_lines: int | None = None) -> list[str]:
    """Wrap text into lines.

    Args:
        text: Text.
        indent: Prefix of each line.
        first: Prefix of the first line; None for `indent`.
        max_lines: Maximum number of lines; an ellipsis replaces the rest.
    """
    begin = indent if first is None else first
    wrapper = textwrap.TextWrapper(
        WIDTH,
        initial_indent=begin,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=max_lines,
        placeholder=" …",
    )
    whole = _KEPT_TOGETHER.sub(rf"{NO_BREAK}\1{NO_BREAK}", printable(text))
    return [line.replace(NO_BREAK, " ") for line in wrapper.wrap(whole)] or [begin.rstrip()]


def labelled(label: str, text: str, max_lines: int | None = None, width: int = 12) -> list[str]:
    """Wrap text into lines, with a label before the first one.

    Args:
        label: Label.
        text: Text.
        max_lines: Maximum number of lines; an ellipsis replaces the rest.
        width: Width of the column of labels.

    >>> labelled("trunk", "ConvNet", width=8)
    ['trunk   ConvNet']
    """
    return wrap(text, " " * width, label.ljust(width), max_lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table: the first to the left, the others to the right.

    Args:
        rows: Cells of each row.

    >>> aligned([["cost", "A"], ["time", "1,200"]])
    ['cost      A', 'time  1,200']
    """
    align = ("left", *["right"] * (len(rows[0]) - 1))
    text = tabulate(rows, tablefmt="plain", colalign=align, disable_numparse=True)
    return [line.rstrip() for line in text.splitlines()]


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a line of bars between the smallest and the largest value; values beyond 1e300 become `!`.

    Args:
        values: Numbers. If there are too many, evenly spaced ones are drawn.

    >>> sparkline([0, 1, 2, 7])
    '▁▂▃█'
    """
    if len(values) > _MAX_BARS:
        values = [values[round(i * (len(values) - 1) / (_MAX_BARS - 1))] for i in range(_MAX_BARS)]
    finite = [value for value in values if abs(value) <= _LARGEST]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((value - low) / step)] if abs(value) <= _LARGEST else "!" for value in values)
