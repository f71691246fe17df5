"""Names that fit into a picture: on few lines, without control characters, and shortened in the middle."""

from __future__ import annotations

import re
import unicodedata

from dmlbench.system.terminal import printable

_BREAKS = re.compile(r"(?<=[/_\-. ])")


def width(text: str) -> int:
    r"""Return the width of a text in characters; East Asian characters count twice, and combining marks not at all.

    Args:
        text: Text.

    >>> width("Katakana"), width("カタカナ"), width("e\u0301")
    (8, 8, 1)
    """
    wide = {"W": 2, "F": 2}
    return sum(0 if unicodedata.combining(one) else wide.get(unicodedata.east_asian_width(one), 1) for one in text)


def shortened(text: str, most: int) -> str:
    """Return a text on one line, without its middle if it is too wide.

    Args:
        text: Text.
        most: Largest width, at least 3.

    >>> shortened("Balinese", 12), shortened("Black-footed Albatross", 12)
    ('Balinese', 'Black…atross')
    """
    text = printable(text)
    if width(text) <= most:
        return text
    begin, end = "", ""
    for left, right in zip(text, reversed(text), strict=True):
        if width(begin + end + right) + 1 > most:
            break
        end = right + end
        if width(begin + left + end) + 1 > most:
            break
        begin += left
    return f"{begin}…{end}"


def wrapped(text: str, most: int, lines: int = 2) -> str:
    r"""Break a name after slashes, underscores, hyphens, full stops and spaces, and shorten what does not fit.

    Args:
        text: Name.
        most: Largest width of a line.
        lines: Largest number of lines.

    >>> wrapped("Balinese/character01", 17)
    'Balinese/\ncharacter01'
    >>> wrapped("Early_Aramaic/character22", 17)
    'Early_Aramaic/\ncharacter22'
    """
    text = printable(text)
    if width(text) <= most:
        return text
    found = [""]
    for part in filter(None, _BREAKS.split(text)):
        if width(found[-1] + part.rstrip()) <= most or not found[-1]:
            found[-1] += part
        elif len(found) < lines:
            found.append(part)
        else:
            found[-1] += part
    return "\n".join(shortened(line.strip(), most) for line in found)
