"""What requests must satisfy, and what responses say."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from web_helpers import Browserless, encoded, noise

from dmlbench.web.security import stored_secret

FORM = {"file": (io.BytesIO(b"x"), "x.png")}
POSTS = ("/upload", "/rate/studies", "/rate/x/name", "/rate/x/score", "/rate/x/leave")


@pytest.mark.parametrize("address", POSTS)
def test_a_form_without_the_token_of_the_session_is_refused(shared: Browserless, address: str) -> None:
    shared.token()
    assert shared.post_without_token(address, data={"dataset": "x"}).status_code == 403
    assert shared.post_without_token(address, data={"csrf": "wrong"}).status_code == 403
    assert shared.post_without_token(address, data={"csrf": "ü"}).status_code == 403
    assert shared.app.test_client().post(address, data={"csrf": shared.token()}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_request_from_another_site_is_refused(shared: Browserless, headers: dict[str, str]) -> None:
    assert shared.post("/rate/studies", {"dataset": shared.first.key}, headers=headers).status_code == 403
    image = encoded(noise(9, 9))
    address = f"/api/search?model={shared.model('arcface').key}"
    assert shared.post_without_token(address, data=image, content_type="image/png", headers=headers).status_code == 403


def test_the_interface_for_scripts_accepts_no_body_that_a_form_of_another_site_could_send(shared: Browserless) -> None:
    address = f"/api/search?model={shared.model('arcface').key}"
    fresh = shared.app.test_client()
    image = encoded(noise(9, 9))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
        assert fresh.post(address, data=image, content_type=kind).status_code == 403
    assert fresh.post(address, data=image, content_type="image/png").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:8000", "a b", "127.0.0.1.nip.io", ""])
def test_a_host_name_that_points_here_from_elsewhere_is_refused(shared: Browserless, host: str) -> None:
    answer = shared.get("/api/models", headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert "models" not in (answer.json or {})


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.0.7:8000"])
def test_addresses_and_localhost_are_accepted(shared: Browserless, host: str) -> None:
    assert shared.get("/api/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("address", ["/", "/api/models", "/nothing", "/static/app.css", "/rate", "/downloads"])
def test_every_response_has_the_policy_of_the_site(shared: Browserless, address: str) -> None:
    headers = shared.get(address).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_the_cookie_is_not_sent_by_other_sites_nor_read_by_scripts(shared: Browserless) -> None:
    cookie = shared.app.test_client().get("/api").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_no_page_contains_scripts_styles_or_addresses_of_other_sites(shared: Browserless) -> None:
    query = shared.queries(shared.model("arcface"))[0]
    for page in (
        "/",
        f"/?query={query}",
        f"/compare?query={query}",
        "/rate",
        "/algorithms",
        "/algorithms/arcface",
        "/downloads",
        "/api",
    ):
        text = shared.get(page).text
        assert "<script>" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert 'src="http' not in text


@pytest.mark.parametrize(
    "address",
    [
        "/downloads/runs/{key}/model.pt",
        "/downloads/runs/{key}/..%2frow.json",
        "/downloads/runs/{key}/.lock",
        "/downloads/runs/..%2f{key}/row.json",
        "/downloads/runs/{key}/%2fetc%2fpasswd",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/image/..%2f..%2fetc%2fpasswd",
    ],
)
def test_no_path_of_a_request_reaches_the_file_system(shared: Browserless, address: str) -> None:
    assert shared.get(address.format(key=shared.model("arcface").key)).status_code == 404


def test_a_download_that_was_replaced_by_a_link_is_refused(client: Browserless, place: Path) -> None:
    model = client.model("arcface")
    file = Path(str(model.row.folder)) / "classes.json"
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert client.get(f"/downloads/runs/{model.key}/classes.json").status_code == 404
    assert client.get("/downloads").status_code == 200


def test_the_key_of_cookies_is_kept_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first = stored_secret(tmp_path)
    assert len(first) == 32
    assert stored_secret(tmp_path) == first
    assert stat.S_IMODE(os.stat(tmp_path / "secret").st_mode) == 0o600


def test_an_empty_key_of_cookies_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    assert len(stored_secret(tmp_path)) == 32
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


def test_the_cookie_is_sent_only_when_the_session_changes(shared: Browserless) -> None:
    """A late answer with the session of its request would bring back a rater who has left."""
    browser = shared.app.test_client()
    assert "Set-Cookie" in browser.get("/api").headers
    assert "Set-Cookie" not in browser.get("/rate").headers


class Endless:
    """The body of a large upload, which counts how much of it is read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read(self, n: int = -1) -> bytes:
        """Return zeros."""
        self.read_bytes += max(n, 0)
        return bytes(n)

    readinto = None


@pytest.mark.parametrize(("machine", "with_session"), [("192.168.0.9", True), ("127.0.0.1", False)])
def test_a_model_from_somebody_who_may_not_add_one_is_not_received(
    shared: Browserless, tmp_path: Path, machine: str, with_session: bool
) -> None:
    shared.services.settings.__dict__["add_models"] = tmp_path
    body = Endless()
    environment = {"REMOTE_ADDR": machine, "wsgi.input": body, "CONTENT_LENGTH": str(2**31)}
    client = shared.app.test_client()
    if with_session:
        client.get("/api")
    try:
        answer = client.post("/models", environ_overrides=environment, content_type="multipart/form-data; boundary=x")
    finally:
        shared.services.settings.__dict__["add_models"] = None
    assert answer.status_code in (403, 413)
    assert body.read_bytes <= 128 * 2**20  # which are discarded, so that the browser shows the answer
