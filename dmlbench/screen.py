"""Floor 1: plain text for one screen: at most 100 columns, no control characters, columns in line."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

WIDTH = 100
BOUND = "\u00a0"  # a space at which no line is broken
_NOT_BROKEN = re.compile(" (=|<|->|±) ")  # these stay with what stands beside them
_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 40
_MOST_SEEDS = 10


def plain(text: object) -> str:
    r"""A text on one line, without what a terminal would obey.

    >>> plain("Loss\x1b[31m\n2")
    'Loss?[31m?2'
    """
    return "".join(letter if letter.isprintable() or letter == BOUND else "?" for letter in str(text))


def short(text: object, width: int) -> str:
    """A text of at most so many letters; what it loses shows as an ellipsis.

    >>> short("black_footed_albatross", 10)
    'black_foo…'
    """
    found = plain(text)
    return found if len(found) <= width else found[: width - 1] + "…"


def paragraph(text: str, indent: str = "", first: str | None = None, most: int | None = None) -> list[str]:
    """Wrapped lines.

    Args:
        text: words.
        indent: before each line.
        first: before the first, instead.
        most: lines; what is beyond them shows as an ellipsis.
    """
    begin = indent if first is None else first
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False, max_lines=most, placeholder=" …"
    )
    whole = _NOT_BROKEN.sub(rf"{BOUND}\1{BOUND}", plain(text))
    return [line.replace(BOUND, " ") for line in wrapper.wrap(whole)] or [begin.rstrip()]


def titled(title: str, text: str, most: int | None = None, width: int = 12) -> list[str]:
    """A paragraph with its title before it.

    >>> titled("trunk", "ConvNet", width=8)
    ['trunk   ConvNet']
    """
    return paragraph(text, " " * width, title.ljust(width), most)


def aligned(lines: Sequence[Sequence[str]], gap: int = 3) -> list[str]:
    """A small table: the first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        (" " * gap)
        .join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))])
        .rstrip()
        for line in lines
    ]


def sparkline(values: Sequence[float]) -> str:
    """A row of bars from the least value to the greatest; many values are thinned out, the first and the last stay.

    >>> sparkline([0, 1, 2, 7])
    '▁▂▃█'
    """
    if len(values) > _MOST_BARS:
        values = [values[round(i * (len(values) - 1) / (_MOST_BARS - 1))] for i in range(_MOST_BARS)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_BARS[round((value - low) / step)] if math.isfinite(value) else "!" for value in values)


def seeds_told(seeds: Sequence[int]) -> str:
    """Some seeds in words.

    >>> seeds_told([0]), seeds_told([0, 1, 4]), seeds_told(range(20))
    ('seed 0', 'seeds 0, 1, 4', '20 seeds from 0 to 19')
    """
    if len(seeds) > _MOST_SEEDS:
        return f"{len(seeds)} seeds from {min(seeds)} to {max(seeds)}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def percent(value: float, digits: int = 1) -> str:
    """A fraction in percent, without its sign.

    >>> percent(0.3333)
    '33.3'
    """
    return f"{100 * value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A difference of fractions in points, with its sign; none where it rounds to nothing.

    >>> signed(0.0321), signed(-0.0001)
    ('+3.2', '0.0')
    """
    text = f"{100 * value:+.{digits}f}"
    return text if float(text) else text[1:]
