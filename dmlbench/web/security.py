"""What every request must satisfy, and what every response says: host, CSRF token, content security policy."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request, session

from dmlbench.system.regular_files import read_bytes

_POLICY = (
    "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers do not say where a form comes from
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=()",
}
_TOKEN = "csrf"
_SECRET_BYTES = 32
_HOST_NAME = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)
# Bodies with these types cannot be sent by a page of another site without a request for permission, which is not granted.
_NOT_SIMPLE = ("image/", "application/octet-stream")


def protect(app: Flask, secret: bytes, hosts: Collection[str]) -> None:
    """Add the checks of requests and the headers of responses to an application.

    Args:
        app: The application.
        secret: Key that signs the cookie.
        hosts: Host names by which the server may be addressed, in addition to `localhost` and addresses. Other names are
            refused, because a page of another site could have made its own name point here (DNS rebinding).
    """
    app.secret_key = secret
    app.config.update(SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_NAME="dmlbench")
    known = {"localhost", *(name.lower() for name in hosts)}

    @app.before_request
    def check() -> None:
        if not _is_known_host(request.host, known):
            abort(421, "This server is addressed by a name that it does not know; use --host NAME, or an address.")
        if request.method not in ("GET", "HEAD", "OPTIONS") and not (_same_origin() and _has_token()):
            abort(403, "This request did not come from a page of this server, or the page is outdated; reload it.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    app.jinja_env.globals["csrf_token"] = csrf_token


def csrf_token() -> str:
    """Return the token that forms of this session contain."""
    if _TOKEN not in session:
        session[_TOKEN] = secrets.token_urlsafe(24)
        session.permanent = True  # a rater takes up later where he left
    return str(session[_TOKEN])


def stored_secret(directory: Path) -> bytes:
    """Return the key that signs cookies; it is made at the first start, so that sessions survive a restart.

    Args:
        directory: Directory of the application's files.
    """
    file = directory / "secret"
    with suppress(FileNotFoundError):
        if len(found := read_bytes(file, 1024)) >= _SECRET_BYTES:
            return found
        file.unlink()  # the disk was full when it was written
    directory.mkdir(parents=True, exist_ok=True)
    new = directory / f"secret-{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(_SECRET_BYTES))
        with suppress(FileExistsError):  # of another server that starts now
            os.link(new, file)
    finally:
        new.unlink()
    return read_bytes(file, 1024)


def _is_known_host(host: str, known: Collection[str]) -> bool:
    found = _HOST_NAME.fullmatch(host)
    if not found:
        return False
    name = found[1].lower().strip("[]")
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return name in known


def _same_origin() -> bool:
    """Whether the browser says that a page of this server sent the request. Programs that are not browsers say nothing."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


def has_session() -> bool:
    """Return whether the request comes from a browser that has seen a page. The cookie is not sent by other sites."""
    return isinstance(session.get(_TOKEN), str) and _same_origin()


def _has_token() -> bool:
    if (request.content_type or "").startswith(_NOT_SIMPLE):
        return True
    expected = session.get(_TOKEN)
    given = request.headers.get("X-CSRF-Token") or request.form.get(_TOKEN, "")
    return isinstance(expected, str) and hmac.compare_digest(expected.encode(), given.encode())
