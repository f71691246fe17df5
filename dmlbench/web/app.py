"""The application: its parts, pages and errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Flask, abort, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup, escape
from werkzeug.exceptions import HTTPException

from dmlbench.errors import DmlbenchError, describe_os_error
from dmlbench.system.terminal import printable_lines
from dmlbench.web import algorithm_pages, api, download_pages, model_pages, rating_pages, results_pages, search_pages
from dmlbench.web.catalogue import RunChangedError
from dmlbench.web.decoder import MAX_BYTES
from dmlbench.web.security import has_session, protect, stored_secret
from dmlbench.web.services import Services, Settings

_PARTS = (search_pages, rating_pages, results_pages, algorithm_pages, download_pages, model_pages, api)
_ATTEMPTS = 50
_DRAINED_BYTES = 128 * 2**20
_DAYS_OF_SESSION = 365


class App(Flask):
    """An application that answers a request again if a run changed, vanished or turned out to be damaged meanwhile."""

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer a request from one snapshot of the runs."""
        for _ in range(_ATTEMPTS):  # each of them leaves out a run, or finds the runs again
            with suppress(RunChangedError):
                return super().dispatch_request()
        return super().dispatch_request()


def create_app(settings: Settings) -> Flask:
    """Make the application. Neither torch nor the images are read before a page needs them.

    Args:
        settings: What the command line says.
    """
    app = App("dmlbench.web")
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BYTES + 2**16,
        MAX_FORM_MEMORY_SIZE=2**20,
        MAX_FORM_PARTS=50,
        PERMANENT_SESSION_LIFETIME=_DAYS_OF_SESSION * 24 * 3600,
        SESSION_REFRESH_EACH_REQUEST=False,  # or a late answer would bring back the rater of its request
    )
    app.jinja_env.finalize = _printable
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions["dmlbench"] = Services(settings)
    app.before_request(_allow_large_models)
    protect(app, stored_secret(settings.directory), settings.hosts)
    app.jinja_env.globals["link"] = _link
    app.jinja_env.filters["breakable"] = _breakable
    for part in _PARTS:
        app.register_blueprint(part.PAGES)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(DmlbenchError, _user_error)
    app.register_error_handler(OSError, _os_error)
    return app


def _allow_large_models() -> None:
    """Accept a large body only from those who may send one: it is stored on the disk before the form can be read."""
    if request.endpoint != model_pages.ENDPOINT:
        return
    if not model_pages.is_allowed():
        abort(403, "Models can be added from this machine only.")
    if has_session():
        request.max_content_length = model_pages.MAX_REQUEST_BYTES


def _printable(value: Any) -> Any:
    """Mark characters that would hide or reorder other text of a page."""
    if not isinstance(value, str):
        return value
    shown = printable_lines(value)
    return Markup(shown) if isinstance(value, Markup) else shown


def _link(endpoint: str, *parameters: Mapping[str, Any], **more: Any) -> str:
    """Return an address with parameters from several sources; those that are None are left out."""
    return url_for(endpoint, **{name: value for one in (*parameters, more) for name, value in one.items()})


def _breakable(text: object) -> Markup:
    """Let a long name, such as `Greek/character_08`, break after a slash or an underscore."""
    return Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(text))))


def wants_json() -> bool:
    """Return whether an error is answered as JSON: for scripts, and for requests by our own script."""
    return request.path.startswith("/api/") or request.headers.get("X-Requested-With") == "fetch"


def _error(status: int, sentence: str) -> tuple[Any, int]:
    if wants_json():
        return {"error": sentence}, status
    return render_template("error.html", status=status, sentence=sentence), status


def _http_error(error: HTTPException) -> tuple[Any, int]:
    status = error.code or 500
    if status == 413:
        _drain()
        return _error(status, f"The file is too large; at most {MAX_BYTES // 2**20} MiB are accepted.")
    return _error(status, error.description or error.name)


def _drain() -> None:
    """Read what the browser still sends: it shows the answer only once it has sent everything."""
    left = min(request.content_length or 0, _DRAINED_BYTES)
    stream = request.environ["wsgi.input"]
    while left > 0 and (part := stream.read(min(left, 2**16))):
        left -= len(part)


def _user_error(error: DmlbenchError) -> tuple[Any, int]:
    sentence = str(error)
    if re.match(r"[a-z]+ ", sentence):  # a word, not a path
        sentence = sentence[:1].upper() + sentence[1:]
    return _error(422, f"{sentence}{'' if sentence.endswith('.') else '.'}")


def _os_error(error: OSError) -> tuple[Any, int]:
    """A file has vanished while it was read, such as one of a run that was removed."""
    return _error(503, f"{describe_os_error(error)}; reload the page.")
