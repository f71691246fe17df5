"""Text from somebody else neither controls the terminal nor fails to be written."""

from __future__ import annotations

import doctest
import io
import json

import pytest

from dmlbench.system import terminal
from dmlbench.system.terminal import PrintableStream, escaped_for_json, printable, printable_lines

UNSAFE = "\x00\x07\x08\x0b\r\x1b\x7f\x80\x9b\x9f\u061c\u200e\u200f\u2028\u202a\u202e\u2066\u2069\ufeff\udfff\ud800"


def test_control_characters_are_replaced_and_the_characters_of_all_scripts_are_kept() -> None:
    kept = "Größe 方法\u3000甲 क्‍ष 🏳️‍🌈 ½\u00a0%\ue000"
    assert printable(UNSAFE) == "?" * len(UNSAFE)
    assert printable(f"{kept}\t\n") == f"{kept}??"
    assert printable_lines(f"{kept}\t\n{UNSAFE}") == f"{kept}\t\n" + "?" * len(UNSAFE)
    assert printable(3.5) == "3.5"


def test_json_with_escapes_has_the_same_meaning_and_no_control_characters() -> None:
    text = escaped_for_json(json.dumps([UNSAFE, "é"], ensure_ascii=False))
    assert json.loads(text) == [UNSAFE, "é"]
    assert text == printable_lines(text)
    text.encode()


def test_a_stream_writes_only_printable_text_and_is_otherwise_the_stream_below() -> None:
    below = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream = PrintableStream(below)
    print("a\x1b[31m\ud800", file=stream, flush=True)
    assert below.buffer.getvalue() == b"a?[31m?\n"
    assert stream.encoding == "utf-8"
    with pytest.raises(AttributeError):
        _ = stream.nothing


def test_the_examples_of_the_docstrings_are_correct() -> None:
    assert doctest.testmod(terminal) == (0, 3)  # failed, attempted
