"""Tables as text, one module per format. Fractions are converted to percent, and text is escaped, only in this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dmlbench.errors import UserError, suggest
from dmlbench.system.terminal import printable_lines
from dmlbench.tables.formats.csv import csv
from dmlbench.tables.formats.html import html
from dmlbench.tables.formats.latex import latex
from dmlbench.tables.formats.markdown import markdown
from dmlbench.tables.table import Table

__all__ = ["FORMATS", "csv", "html", "latex", "markdown", "render"]

FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}  # name to file suffix
_WRITERS: dict[str, Callable[[Sequence[Table]], str]] = {"markdown": markdown, "latex": latex, "csv": csv, "html": html}


def render(tables: Sequence[Table], format: str = "markdown") -> str:  # noqa: A002 -- the option's name
    """Write tables as text without control characters.

    Args:
        tables: What `table.compare` returned.
        format: One of `FORMATS`.

    Raises:
        UserError: The format is unknown.
    """
    if format not in FORMATS:
        raise UserError(f"--format {format} is not known{suggest(format, FORMATS)}")
    return printable_lines(_WRITERS[format](tables))
