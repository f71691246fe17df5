"""Plain text for a terminal: at most 100 columns, no control characters, aligned columns."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

from tabulate import tabulate

WIDTH = 100
NO_BREAK = "\u00a0"  # a space at which no line is broken
_KEPT_TOGETHER = re.compile(" (=|<|->|±) ")  # these stay on one line with their neighbours
_BARS = "▁▂▃▄▅▆▇█"
_MAX_BARS = 40


def printable(text: object) -> str:
    r"""Return text on one line, without control characters.

    >>> printable("Loss\x1b[31m\n2")
    'Loss?[31m?2'
    """
    return "".join(character if character.isprintable() or character == NO_BREAK else "?" for character in str(text))


def shorten(text: object, width: int) -> str:
    """Return text of at most `width` characters, with an ellipsis for what is cut.

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
        first: Prefix of the first line, if it differs.
        max_lines: Maximum number of lines; the rest becomes an ellipsis.
    """
    begin = indent if first is None else first
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False, max_lines=max_lines, placeholder=" …"
    )
    whole = _KEPT_TOGETHER.sub(rf"{NO_BREAK}\1{NO_BREAK}", printable(text))
    return [line.replace(NO_BREAK, " ") for line in wrapper.wrap(whole)] or [begin.rstrip()]


def labelled(label: str, text: str, max_lines: int | None = None, width: int = 12) -> list[str]:
    """Wrap text with a label before it.

    >>> labelled("trunk", "ConvNet", width=8)
    ['trunk   ConvNet']
    """
    return wrap(text, " " * width, label.ljust(width), max_lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table: the first to the left, the others to the right.

    >>> aligned([["cost", "A"], ["time", "1,200"]])
    ['cost      A', 'time  1,200']
    """
    align = ("left", *["right"] * (len(rows[0]) - 1))
    text = tabulate(rows, tablefmt="plain", colalign=align, disable_numparse=True)
    return [line.rstrip() for line in text.splitlines()]


def sparkline(values: Sequence[float]) -> str:
    """Draw values as a row of bars, from the smallest to the largest; what is not finite becomes `!`.

    >>> sparkline([0, 1, 2, 7])
    '▁▂▃█'
    """
    if len(values) > _MAX_BARS:
        values = [values[round(i * (len(values) - 1) / (_MAX_BARS - 1))] for i in range(_MAX_BARS)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((value - low) / step)] if math.isfinite(value) else "!" for value in values)
