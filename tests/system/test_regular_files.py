"""Files that may come from somebody else are opened only if they are regular files of bounded size."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dmlbench.system.regular_files import NotARegularFileError, open_regular, parse_json, read_json, read_text


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, "é"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, "é"]}
    assert read_text(tmp_path / "a.json") == '{"a": [1, 2.5, "é"]}'


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_a_fifo_a_socket_a_device_a_directory_and_links_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "broken").symlink_to("none")
    reasons = {}
    for path in (*(tmp_path / name for name in ("fifo", "socket", "link", "zeros", "broken")), tmp_path, Path("/dev/zero")):
        with pytest.raises(NotARegularFileError) as caught:
            open_regular(path)
        reasons[path.name] = caught.value.strerror
    server.close()
    assert reasons == {
        "fifo": "it is not a regular file",
        "socket": "it is not a regular file",
        "link": "it is a link",
        "zeros": "it is a link",
        "broken": "it is a link",
        tmp_path.name: "it is a directory",
        "zero": "it is not a regular file",
    }


def test_a_file_that_is_too_large_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no space
    with pytest.raises(NotARegularFileError, match=r"1,099,511,627,776 bytes; at most 67,108,864 are read"):
        read_text(tmp_path / "large")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "its brackets are nested too deeply"),
        ("[" * 900 + "1" + "0" * 400 + "]" * 900, "more than 300 digits"),
        ('{"a": 1' + "0" * 400 + "}", "more than 300 digits"),
        ('{"a": "\\ud800"}', "not valid Unicode"),
        ("{", "Expecting property name"),
        ('[{"b": {"a": 1, "b": 2, "a": 3}}]', "it has the key 'a' twice"),
    ],
)
def test_json_that_cannot_be_printed_or_computed_with_is_refused_with_a_clause(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text.encode())


def test_digits_in_text_and_in_fractions_are_no_integers() -> None:
    assert parse_json(b'{"a": "' + b"1" * 100 + b'", "b": 0.' + b"1" * 400 + b"}")["b"] == pytest.approx(1 / 9)
