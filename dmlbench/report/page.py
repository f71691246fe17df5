"""A report as one HTML page without requests to anywhere: styles, script and images are inside.

Everything from run directories is escaped by the templates. The content security policy allows exactly one script and one
style, by their hashes, and images in data URIs.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dmlbench import __version__
from dmlbench.report.contents import Contents
from dmlbench.system.terminal import printable_lines

_SCRIPTS = ("tables.js", "figures.js")


def page(contents: Contents, title: str) -> str:
    """Write a report as HTML.

    Args:
        contents: What to show.
        title: Title of the page.
    """
    style = _static("report.css")
    script = "".join(map(_static, _SCRIPTS))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )
    text = (
        _environment()
        .get_template("report.html")
        .render(
            contents=contents,
            title=title,
            policy=Markup(policy),  # constants and hashes
            style=Markup(style),
            script=Markup(script),
            version=__version__,
        )
    )
    return printable_lines(text)


@cache
def _environment() -> Environment:
    loader = PackageLoader("dmlbench.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _static(name: str) -> str:
    return (files("dmlbench.report") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
