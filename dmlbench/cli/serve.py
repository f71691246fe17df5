"""`dmlbench serve`: a local web application to search with finished runs. Imports torch only when a page needs it."""

from __future__ import annotations

import argparse
import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, add_config_dir, add_runs_dir, allow_own_code, check_config_dir, print_error
from dmlbench.cli.evaluate import OVERRIDES
from dmlbench.errors import UserError
from dmlbench.system.garbage import search_as_usual
from dmlbench.system.signals import Interrupted, received_signal

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

WEB_DIRECTORY = ".web"
ADDED_DIRECTORY = "added"  # below the directory of runs
EXAMPLES = """\
serve                                         # every run below runs/
serve runs/cub --port 8001 dataset.root=/data/cub
serve --host 0.0.0.0                          # also for other machines
"""
DETAILS = """\
Pages: search by upload or test image, all models side by side, blind rating, algorithms, downloads, and
a JSON interface. Runs that appear below the directories are offered without a restart. The ratings are in
a database below runs/.web. Images outside of the current directory have to be named: dataset.root=DIR, or
paths.data=DIR. A run directory is data: nothing in it is executed. The server ends with Ctrl-C.
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Serve a local web application to search with finished runs, compare them and rate them blindly."
    parser = Parser("serve", "[RUNS ...] [options]", description, EXAMPLES, DETAILS, overrides=OVERRIDES)
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUNS", help="which runs (see `dmlbench table --help`; default: all below runs/)")
    add("--port", metavar="N", default="8000", help="port (default: 8000; 0 for any free one)")
    add(
        *("--host",),
        metavar="NAME",
        default="127.0.0.1",
        help="address to listen on, or a name by which the server is addressed (default: 127.0.0.1, this machine only)",
    )
    add_runs_dir(parser)
    add_config_dir(parser, "directory of the configuration files and own code of the runs")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Serve until the command is interrupted."""
    server = make_server(arguments)
    host = f"[{server.host}]" if ":" in server.host else server.host
    print(f"Serving on http://{host}:{server.port}/ (Ctrl-C ends it)", flush=True)
    search_as_usual()
    try:
        server.serve_forever()
    finally:
        server.server_close()
        server.app.extensions["dmlbench"].decoder.close()  # type: ignore[attr-defined]  # it is the Flask application
    number = received_signal()  # which werkzeug has taken as the end
    if number is not None:
        raise Interrupted(number)
    return 0


def make_server(arguments: argparse.Namespace) -> BaseWSGIServer:
    """Make the server, which listens already.

    Args:
        arguments: Result of the parser.

    Raises:
        UserError: Flask is not installed, a selector names no run, or the port is not available.
    """
    port = _port(arguments.port)
    config_dir = check_config_dir(arguments.config_dir)
    if config_dir is not None:
        allow_own_code(config_dir)
    try:
        from werkzeug.serving import WSGIRequestHandler
        from werkzeug.serving import make_server as werkzeug_server

        from dmlbench.web.app import create_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dmlbench"):
            raise
        raise UserError(f"dmlbench serve needs {(error.name or '').partition('.')[0]}: pip install 'dmlbench[web]'") from None
    from dmlbench.results.find_runs import select
    from dmlbench.web.search import use_one_thread_per_product
    from dmlbench.web.services import Settings

    class Handler(WSGIRequestHandler):
        """Prints no line per request, and ends a connection on which nothing arrives for a minute."""

        protocol_version = "HTTP/1.1"
        timeout = 60

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Print nothing."""

    options = tuple(one for one in arguments.selectors if OVERRIDES.match(one) and "=" in one and not Path(one).exists())
    selectors = [one for one in arguments.selectors if one not in options]
    for selector in selectors:
        select(selector, arguments.runs)  # or an error now
    local = _is_loopback(arguments.host)
    if not local:
        print_error(
            f"--host {arguments.host}: everybody who can reach this machine can search, see the images and rate; there is no "
            "password and no encryption"
        )
    added = arguments.runs / ADDED_DIRECTORY if local else None
    paths = _search_paths(selectors, arguments.runs, added)
    app = create_app(Settings(paths, arguments.runs / WEB_DIRECTORY, options, config_dir, (arguments.host,), added))
    use_one_thread_per_product()
    app.extensions["dmlbench"].catalogue.snapshot()  # before the first page is asked for
    try:
        return werkzeug_server(arguments.host, port, app, threaded=True, request_handler=Handler)
    except (OSError, SystemExit):  # werkzeug prints its own advice and exits
        if not _is_own_address(arguments.host):
            raise UserError(f"--host {arguments.host} is not an address of this machine; use 127.0.0.1 or 0.0.0.0") from None
        raise UserError(f"port {port} of {arguments.host} is not available; choose another --port") from None


def _search_paths(selectors: Sequence[str], runs: Path, added: Path | None) -> Callable[[], list[Path]]:
    """Return a function that returns the paths of the runs to offer: a selector may name more runs later."""
    from dmlbench.results.find_runs import select

    def paths() -> list[Path]:
        found = [] if selectors else [runs]
        for selector in selectors:
            with suppress(UserError):  # all runs that it named have vanished
                found += select(selector, runs)
        return [*found, added] if added is not None and selectors else found

    return paths


def _is_own_address(host: str) -> bool:
    """Return whether this machine can listen on an address, at some port."""
    with suppress(OSError), socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
        return True
    return False


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise UserError(f"--port {text} is not a port; name a number from 0 to 65535")
    return int(text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
