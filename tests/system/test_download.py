"""Interrupted downloads resume, wrong files are refused, and without a network the error says what to do."""

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


@pytest.mark.parametrize("scheme", ["file://", "FILE:", "ftp://127.0.0.1", "data:,x", ""])
def test_only_web_addresses_are_downloaded(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(UserError, match="is not an address that starts with https:// or http://; ask somebody"):
        download(f"{scheme}{tmp_path}/secret", tmp_path / "copy", {}, otherwise="ask somebody")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@dataclass
class Server:
    """A server of one file, whose connections can break.

    Args:
        url: Address of the file.
        bytes_per_response: Bytes after which each connection breaks. None sends the whole response.
        supports_ranges: Whether it supports range requests.
        status: Status of each response if it is an error.
        ranges: The requested ranges.
    """

    url: str = ""
    bytes_per_response: int | None = None
    supports_ranges: bool = True
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested = self.headers.get("Range")
            state.ranges.append(requested)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and state.supports_ranges else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start:][: state.bytes_per_response])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}/data/file.tgz"
        yield state
        http.shutdown()


def test_a_complete_file_gets_its_final_name(server: Server, tmp_path: Path) -> None:
    download(server.url, tmp_path / "store" / "file.tgz", MD5, "do without")
    assert (tmp_path / "store" / "file.tgz").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["file.tgz"]


def test_a_broken_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.bytes_per_response = 100_000
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_the_partial_file_of_a_killed_download_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.tgz.part").write_bytes(CONTENT[:123_456])
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT
    assert server.ranges == ["bytes=123456-"]


def test_a_partial_file_that_is_complete_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.tgz.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT


def test_a_server_without_range_requests_sends_the_whole_file_again(server: Server, tmp_path: Path) -> None:
    server.supports_ranges = False
    (tmp_path / "file.tgz.part").write_bytes(b"x" * 5000)
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert (tmp_path / "file.tgz").read_bytes() == CONTENT


def test_a_download_without_progress_fails_after_five_attempts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    server.bytes_per_response = 0
    with pytest.raises(
        UserError, match=r"the download of .* was interrupted 5 times at byte 0; put it at .*file\.tgz yourself, or do without"
    ):
        download(server.url, tmp_path / "file.tgz", MD5, "do without")


@pytest.mark.parametrize("name", ["md5", "sha256"])
def test_a_wrong_hash_is_reported_with_the_right_one_and_nothing_is_left(name: str, server: Server, tmp_path: Path) -> None:
    actual = hashlib.new(name, CONTENT).hexdigest()
    with pytest.raises(UserError, match=f"its {name} is {actual}, not 0000; it was removed"):
        download(server.url, tmp_path / "file.tgz", {name: "0000"}, "do without")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_used_only_if_its_hash_is_right(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.tgz").write_bytes(CONTENT)
    download(server.url, tmp_path / "file.tgz", MD5, "do without")
    assert server.ranges == []
    (tmp_path / "file.tgz").write_bytes(b"other")
    with pytest.raises(UserError, match="is not the published file"):
        download(server.url, tmp_path / "file.tgz", MD5, "do without")


def test_an_error_of_the_server_is_reported_in_one_sentence(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match=r"the server returns 404 Not Found for .*; put it at"):
        download(server.url, tmp_path / "file.tgz", MD5, "do without")


def test_an_unreachable_server_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be reached \(.*\); put it at"):
        download("http://127.0.0.1:9/file.tgz", tmp_path / "file.tgz", MD5, "do without")
