"""Text from somebody else, made safe for a terminal: it can neither move the cursor nor reorder or hide other text."""

from __future__ import annotations

import codecs
import os
import re
import sys
from contextlib import suppress
from typing import Any, TextIO

# Control characters (C0 without tab and line feed, DEL, C1), characters that reorder text or break lines (bidirectional
# controls, line and paragraph separators), the byte order mark, and halves of surrogate pairs, which cannot be written.
_UNSAFE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_LINES = re.compile(f"[{_UNSAFE}]")
_IN_A_LINE = re.compile(f"[{_UNSAFE}\t\n]")

_IN_ASCII = "dmlbench.in_ascii"  # name of an error handler
# Plus-minus, minus, dashes, ellipsis, less and greater or equal, times, middle dot, arrow.
_ASCII = {
    **{"\u00b1": "+/-", "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2026": "...", "\u2264": "<=", "\u2265": ">="},
    **{"\u00d7": "x", "\u00b7": ".", "\u2192": "->"},
}


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


class OutputStream:
    """A text stream that accepts characters which its encoding lacks: they are written in ASCII, or as `?`.

    Args:
        stream: Stream that receives the text.
        discard_on_error: Discard all further text once the stream cannot be written. Otherwise the error is raised.
    """

    def __init__(self, stream: TextIO, discard_on_error: bool = False) -> None:
        self._stream = stream
        self._discard_on_error = discard_on_error
        self._discards = False

    def write(self, text: str) -> int:
        """Write text.

        Args:
            text: Text.
        """
        if not self._discards:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode(self._stream.encoding, _IN_ASCII).decode(self._stream.encoding))
            except OSError as error:
                self._handle(error)
        return len(text)

    def flush(self) -> None:
        """Write what is in the buffer of the stream."""
        if not self._discards:
            try:
                self._stream.flush()
            except OSError as error:
                self._handle(error)

    def _handle(self, error: OSError) -> None:
        if not self._discard_on_error:
            raise error
        self._discards = True
        discard_buffer(self._stream)
        if not isinstance(error, BrokenPipeError):  # whose reader has ended, and knows
            sentence = f"standard output cannot be written: {error.strerror}; the command continues without it"
            print(f"dmlbench: {sentence}", file=sys.stderr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class PrintableStream(OutputStream):
    """An output stream to which only printable text is written; see `printable_lines`."""

    def write(self, text: str) -> int:
        """Write text.

        Args:
            text: Text, which may contain control characters.
        """
        return super().write(printable_lines(text))


def discard_buffer(stream: TextIO) -> None:
    """Discard what is still in the buffer of a stream, which Python would otherwise write again at its end.

    Args:
        stream: A stream that cannot be written.
    """
    with suppress(OSError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_closed_streams() -> None:
    """Connect standard input, output and error with the null device if the caller has closed them.

    Otherwise the next file that is opened would take the number of the stream, and receive what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is that of the stream
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_ASCII.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error(_IN_ASCII, _in_ascii)
