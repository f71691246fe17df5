"""The command `dmlbench serve`, and the server as a process."""

from __future__ import annotations

import http.client
import http.cookiejar
import json
import re
import signal
import socket
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from server_helpers import serving

from dmlbench.cli import run
from dmlbench.cli.serve import make_parser, make_server
from dmlbench.web.ratings import Ratings


class Visitor:
    """A client of a server in another process, with a cookie.

    Args:
        address: Address of the server.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._open = urllib.request.build_opener(cookies, urllib.request.ProxyHandler({})).open
        self._token = re.findall(r'name="csrf" content="([^"]+)"', self.get("/api"))[0]

    def get(self, path: str) -> str:
        """The text of a page."""
        with self._open(self.address + path, timeout=20) as answer:
            return str(answer.read().decode())

    def post(self, path: str, **fields: str) -> tuple[str, str]:
        """Post a form; the address and text of the answer."""
        data = urllib.parse.urlencode({**fields, "csrf": self._token}).encode()
        request = urllib.request.Request(self.address + path, data, {"X-Requested-With": "fetch"})
        with self._open(request, timeout=20) as answer:
            return answer.url.removeprefix(self.address), answer.read().decode()


def test_a_server_that_is_killed_while_it_stores_ratings_loses_none_that_it_had_confirmed(place: Path) -> None:
    with serving(place, "runs") as (process, address):
        visitor = Visitor(address)
        model = json.loads(visitor.get("/api/models"))["models"][0]
        begun, _ = visitor.post("/rate/studies", dataset=model["dataset"], models=model["model"], queries="20")
        study, key = begun.split("/begun")
        raters = [Visitor(address) for _ in range(3)]
        confirmed: list[list[tuple[str, int]]] = [[], [], []]

        def rate(number: int) -> None:
            with suppress(OSError, ValueError, http.client.HTTPException):
                raters[number].post(f"{study}/name", name=f"rater {number}")
                for query in range(1, 21):
                    page = raters[number].get(f"{study}?query={query}")
                    for i, item in enumerate(re.findall(r'name="item" value="([^"]+)"', page)):
                        score = 1 + (query + i) % 5
                        _, answer = raters[number].post(f"{study}/score", item=item, score=str(score))
                        if json.loads(answer) == {"saved": True, "item": item, "score": score}:
                            confirmed[number].append((item, score))

        threads = [threading.Thread(target=rate, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        while sum(map(len, confirmed)) < 40:
            threads[0].join(0.01)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
    base = Ratings(place / "runs/.web/ratings.sqlite3")
    [kept] = base.studies()
    for number in range(3):
        rater = base.rater(f"rater {number}")
        stored = {one.token: one.score for query in range(20) for one in base.items(kept, rater, query)[1]}
        assert all(stored[item] == score for item, score in confirmed[number])
    assert sum(map(len, confirmed)) >= 40
    with serving(place, "runs") as (_, address):
        assert f"<strong>{len(base.ratings(kept))}</strong> ratings" in Visitor(address).get(f"{study}/results{key}")


def test_a_file_of_50_mb_is_answered_and_ctrl_c_ends_the_server(place: Path) -> None:
    with serving(place, "runs") as (process, address):
        visitor = Visitor(address)
        with pytest.raises(urllib.error.HTTPError) as refused:
            visitor.post("/upload", file="x" * 50_000_000)
        assert refused.value.code == 413
        assert json.loads(refused.value.read()) == {"error": "The file is too large; at most 20 MiB are accepted."}
        refused.value.close()
        assert "dmlbench" in visitor.get("/")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_neither_torch_nor_hydra_is_imported_before_an_image_has_to_be_embedded(place: Path) -> None:
    code = (
        "import sys; from dmlbench.cli.serve import make_parser, make_server; "
        "server = make_server(make_parser().parse(['runs', '--port', '0'])); "
        "client = server.app.test_client(); page = client.get('/?query=20'); picture = client.get('/rate'); "
        "print(page.status_code, *(name for name in ('torch', 'hydra', 'matplotlib', 'pandas') if name in sys.modules))"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=place)
    assert done.stdout.split() == ["200"]


def test_a_port_that_is_taken_is_refused_with_a_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "--port", str(port)]) == 2
    assert f"port {port} of 127.0.0.1 is not available" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_refused_with_a_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert run(["serve", "--port", "0", "--host", host]) == 2
    assert f"--host {host} is not an address of this machine" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["x", "-1", "65536", "8e3"])
def test_a_wrong_port_is_refused(place: Path, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--port", port]) == 2
    assert "is not a port" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "werkzeug.serving", None)
    assert run(["serve"]) == 2
    assert capsys.readouterr().err == "dmlbench: dmlbench serve needs werkzeug: pip install 'dmlbench[web]'\n"


def test_an_unknown_selector_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "nothing"]) == 2
    assert "nothing names no run" in capsys.readouterr().err


def test_other_machines_are_admitted_with_a_warning_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host, warned in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)):
        make_server(make_parser().parse(["--port", "0", "--host", host])).server_close()
        assert ("no password and no encryption" in capsys.readouterr().err) == warned


def test_selected_runs_only_are_offered(place: Path) -> None:
    server = make_server(make_parser().parse(["runs/second", "--port", "0"]))
    try:
        models = server.app.test_client().get("/api/models").json["models"]
        assert {one["dataset_label"][:6] for one in models} == {"second"}
    finally:
        server.server_close()
