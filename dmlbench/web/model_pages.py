"""The page on which a model that was trained elsewhere is added."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from dmlbench.errors import DmlbenchError, UserError
from dmlbench.web.added_models import MAX_ROW_BYTES, MAX_WEIGHTS_BYTES, add_model, read_config
from dmlbench.web.services import Services, services

PAGES = Blueprint("models", __name__, url_prefix="/models")
ENDPOINT = "models._add"
MAX_REQUEST_BYTES = MAX_WEIGHTS_BYTES + MAX_ROW_BYTES + 2**16
_KEPT = 20


@PAGES.get("")
def _page() -> str:
    return render_template("models.html", page="downloads", allowed=is_allowed(), additions=services().additions)


@PAGES.post("")
def _add() -> AnyResponse:
    config, weights = request.files.get("config"), request.files.get("weights")
    if not config or not weights:
        raise UserError("choose row.json and model.safetensors")
    row, content = read_config(config.stream.read(MAX_ROW_BYTES + 1)), weights.stream.read()
    parts, name = services(), request.form.get("name", "")
    if any(one["state"] == "in progress" for one in parts.additions):
        raise UserError("another model is being added; wait until it is there")
    addition = {"name": name[:80], "state": "in progress"}
    parts.additions[:] = [addition, *parts.additions[: _KEPT - 1]]

    def work() -> None:
        addition["state"] = _result(
            parts, lambda directory: add_model(row, content, name, directory, parts.models.options, parts.settings.config_dir)
        )

    threading.Thread(target=work, daemon=True).start()
    return redirect(url_for("models._page"), 303)


def _result(parts: Services, work: Callable[[Path], Path]) -> str:
    """Run the work, and return what became of it."""
    directory = parts.settings.add_models
    assert directory is not None
    try:
        with parts.models.loading:
            return f"added as run {work(directory).name}"
    except DmlbenchError as error:
        return f"refused: {error}"
    except Exception as error:  # of Hydra, or a disk that is full
        return f"failed: {(str(error).splitlines() or [type(error).__name__])[0]}"


def is_allowed() -> bool:
    """Return whether models can be added, and the request comes from this machine."""
    with suppress(ValueError):
        return services().settings.add_models is not None and ipaddress.ip_address(request.remote_addr or "").is_loopback
    return False
