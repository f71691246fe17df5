"""A download survives a connection that breaks, believes no wrong file, and says what to do where there is no network."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dmlbench.errors import UserError
from dmlbench.system import download as module
from dmlbench.system.download import download

CONTENT = random.Random(0).randbytes(300_000)
MD5 = {"md5": hashlib.md5(CONTENT).hexdigest()}


@dataclass
class Server:
    """A server of one file that breaks off after `breaks` bytes of each answer.

    Args:
        url: the file's address.
        breaks: how much of each answer is sent, None for all.
        ranges: whether it knows ranges.
        status: of each answer, where it is an error.
        asked: the ranges it was asked for.
    """

    url: str = ""
    breaks: int | None = None
    ranges: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.ranges else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start:][: state.breaks])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}/data/file.tgz"
        yield state
        http.shutdown()


def test_a_whole_file_is_put_in_place(server: Server, tmp_path: Path) -> None:
    download(server.url, tmp_path / "store" / "file.tgz", MD5, "do without")
    assert (tmp_path / "store" / "file.tgz").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["file.tgz"]


def test_a_connection_that_drops_mid_file_is_gone_on_from_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks = 100_000
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_a_killed_downloads_part_is_gone_on_from(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.tgz.part").write_bytes(CONTENT[:123_456])
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT
    assert server.asked == ["bytes=123456-"]


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.tgz.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_sends_the_file_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.tgz.part").write_bytes(b"x" * 5000)
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT


def test_a_server_that_never_sends_a_byte_more_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    server.breaks = 0
    with pytest.raises(UserError, match=r"broke off 5 times at byte 0; put it at .*file\.tgz yourself, or do without"):
        download(server.url, tmp_path / "file.tgz", MD5, "do without")


@pytest.mark.parametrize("name", ["md5", "sha256"])
def test_a_wrong_hash_names_both_and_leaves_nothing(name: str, server: Server, tmp_path: Path) -> None:
    right = hashlib.new(name, CONTENT).hexdigest()
    with pytest.raises(UserError, match=f"its {name} is {right}, not 0000; it was removed"):
        download(server.url, tmp_path / "file.tgz", {name: "0000"}, "do without")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_already_is_believed_only_with_the_right_hash(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.tgz").write_bytes(CONTENT)
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert server.asked == []
    (tmp_path / "file.tgz").write_bytes(b"other")
    with pytest.raises(UserError, match="is not the published file"):
        download(server.url, tmp_path / "file.tgz", MD5, "do without")


def test_an_answer_that_is_an_error_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match=r"answers 404 Not Found; put it at"):
        download(server.url, tmp_path / "file.tgz", MD5, "do without")


def test_no_network_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be reached \(.*\); put it at"):
        download("http://127.0.0.1:9/file.tgz", tmp_path / "file.tgz", MD5, "do without")
