"""Text from somebody else neither controls the terminal nor fails to be written."""

from __future__ import annotations

import doctest
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO

import pytest

from dmlbench.system import terminal
from dmlbench.system.terminal import OutputStream, PrintableStream, escaped_for_json, printable, printable_lines

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


def test_characters_that_the_encoding_lacks_are_written_in_ascii() -> None:
    for encoding, expected in (("ascii", b"50 +/- 2 % -> Gr??e\n"), ("latin-1", "50 \xb1 2 % -> Größe\n".encode("latin-1"))):
        below = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        print("50 ± 2 % → Größe", file=OutputStream(below), flush=True)
        assert below.buffer.getvalue() == expected


@pytest.fixture
def closed_pipe() -> Iterator[TextIO]:
    """A stream whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        yield stream


def test_output_without_a_reader_is_discarded_on_request(closed_pipe: TextIO, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError):
        print("text", file=OutputStream(closed_pipe), flush=True)
    stream = OutputStream(closed_pipe, discard_on_error=True)
    for _ in range(3):
        print("text", file=stream, flush=True)
    assert capsys.readouterr().err == ""  # the stream is closed here, which flushes it


def test_output_that_cannot_be_written_is_reported_once_and_then_discarded(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full:
        stream = OutputStream(full, discard_on_error=True)
        for _ in range(3):
            print("text", file=stream, flush=True)
    sentence = "dmlbench: standard output cannot be written: No space left on device; the command continues without it\n"
    assert capsys.readouterr().err == sentence


def test_streams_that_the_caller_has_closed_write_nowhere() -> None:
    code = (
        "import os, sys; from dmlbench.system.terminal import open_closed_streams; open_closed_streams()\n"
        "print('text', flush=True); print('text', file=sys.stderr, flush=True)\n"
        "os._exit(open(os.devnull).fileno() - 3)"  # a file that is opened later is none of the three streams
    )
    for closed in (">&-", "2>&-", ">&- 2>&- <&-"):
        subprocess.run(f"'{sys.executable}' -c \"$CODE\" {closed}", shell=True, check=True, env={**os.environ, "CODE": code})


def test_the_examples_of_the_docstrings_are_correct() -> None:
    assert doctest.testmod(terminal) == (0, 3)  # failed, attempted
