"""Floor 5: a table as text, a module a format. Here alone fractions become percent and letters are escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dmlbench.errors import UserError, suggest
from dmlbench.render.body import percent
from dmlbench.render.csv import csv
from dmlbench.render.html import html
from dmlbench.render.latex import latex
from dmlbench.render.markdown import markdown
from dmlbench.table import Table

__all__ = ["FORMATS", "csv", "html", "latex", "markdown", "percent", "refuse_unknown", "render"]

FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}  # and the suffix of a file in it
_WRITERS: dict[str, Callable[[Sequence[Table]], str]] = {"markdown": markdown, "latex": latex, "csv": csv, "html": html}


def render(tables: Sequence[Table], format: str = "markdown") -> str:  # noqa: A002 -- the word on the command line
    """Write tables in the named format.

    Args:
        tables: what `table.compare` returned.
        format: one of `FORMATS`.

    Raises:
        UserError: the format is not known.
    """
    refuse_unknown(format)
    return _WRITERS[format](tables)


def refuse_unknown(format: str) -> None:  # noqa: A002
    """Refuse a format that is not known, before anything is read for it.

    Raises:
        UserError: it is none of `FORMATS`.
    """
    if format not in FORMATS:
        raise UserError(f"format={format} is no format of a table{suggest(format, FORMATS)}")
