"""Text from somebody else, made safe for a terminal: it can neither move the cursor nor reorder or hide other text."""

from __future__ import annotations

import re
from typing import Any, TextIO

# Control characters (C0 without tab and line feed, DEL, C1), characters that reorder text or break lines (bidirectional
# controls, line and paragraph separators), the byte order mark, and halves of surrogate pairs, which cannot be written.
_UNSAFE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_LINES = re.compile(f"[{_UNSAFE}]")
_IN_A_LINE = re.compile(f"[{_UNSAFE}\t\n]")


def printable(text: object) -> str:
    r"""Return text on one line, with control characters replaced by `?`.

    Args:
        text: Text, or any object.

    >>> printable("Loss\x1b[31m\n2")
    'Loss?[31m?2'
    """
    return _IN_A_LINE.sub("?", str(text))


def printable_lines(text: str) -> str:
    r"""Return text that may have several lines, with control characters except tabs and line feeds replaced by `?`.

    Args:
        text: Text.

    >>> printable_lines("a\x9b2J\n\tb")
    'a?2J\n\tb'
    """
    return _IN_LINES.sub("?", text)


def escaped_for_json(text: str) -> str:
    r"""Return JSON text in which control characters are written as escapes, which mean the same.

    Args:
        text: JSON text.

    >>> print(escaped_for_json('["\x9b2J"]'))
    ["\u009b2J"]
    """
    return _IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class PrintableStream:
    """A text stream to which only printable text is written; see `printable_lines`.

    Args:
        stream: Stream that receives the text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text.

        Args:
            text: Text, which may contain control characters.
        """
        return self._stream.write(printable_lines(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
