"""Tables as one self-contained HTML page, without scripts, fonts or network access; it follows the reader's colour scheme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape as escape_markup

from dmlbench.results.formatting import format_value
from dmlbench.tables.formats import cells
from dmlbench.tables.formats.cells import Style
from dmlbench.tables.table import Table
from dmlbench.tables.table_differences import difference_list, with_differences


def escape(text: str) -> str:
    r"""Escape HTML's special characters, on one line.

    Args:
        text: Plain text. Consecutive white space, including line breaks, becomes one space.

    >>> escape("a < b\n& c")
    'a &lt; b &amp; c'
    """
    return escape_markup(" ".join(text.split()))


STYLE = Style(escape, "<strong>{}</strong>", "±", "<sup>{}</sup>", "n")
_LOOK = """\
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1b; --pale: #616161; --rule: #c8c8c8; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e4e4e4; --pale: #a0a4a8; --rule: #44484d; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 75rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
figure { margin: 0 0 3rem; }
figcaption { max-width: 50rem; margin-bottom: 0.8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; border-block: 2px solid var(--ink); font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.45rem; text-align: left; font-weight: normal; white-space: nowrap; }
thead { border-bottom: 1px solid var(--ink); }
tbody + tbody { border-top: 1px solid var(--rule); }
sup { line-height: 0; }
.notes { max-width: 50rem; padding: 0; list-style: none; color: var(--pale); font-size: 0.9rem; }
"""


def html(tables: Sequence[Table]) -> str:
    """Write tables as one self-contained HTML page.

    Args:
        tables: What `table.compare` returned.

    Returns:
        Caption, table and footnotes of each. Several tables are preceded by a list of the columns in which they differ.
    """
    datasets = ", ".join(dict.fromkeys(format_value(table.shared["dataset"]) for table in tables))
    figures = [_figure(table, number, len(tables)) for number, table in enumerate(with_differences(tables), 1)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>dmlbench: {escape(datasets)}</title>",
            f"<style>\n{_LOOK}</style>",
            "</head>",
            "<body>",
            *_differences(tables),
            *figures,
            "</body>",
            "</html>\n",
        ]
    )


def _differences(tables: Sequence[Table]) -> list[str]:
    """Return a list of the columns in which several tables differ."""
    if len(tables) < 2:
        return []
    heading, items = difference_list(tables)
    return [f"<p>{escape(heading)}</p>", "<ul>", *(f"<li>{escape(item)}</li>" for item in items), "</ul>"]


def _figure(table: Table, number: int, n_tables: int) -> str:
    title = f"<strong>Table {number}.</strong> " if n_tables > 1 else ""
    notes = [f"<li>{note}</li>" for note in cells.notes(table, STYLE)]
    return "\n".join(
        [
            "<figure>",
            f"<figcaption>{title}{escape(table.caption)}</figcaption>",
            '<div class="wide">',
            _table(table),
            "</div>",
            *(['<ul class="notes">', *notes, "</ul>"] if notes else []),
            "</figure>",
        ]
    )


def _table(table: Table) -> str:
    """Return the table, with a rule after the baselines and one before published results."""
    measured, n_baselines = cells.rows(table, STYLE), cells.n_baselines(table)
    rows = [*measured, *cells.published_rows(table, STYLE)]
    text = cells.layout(rows, cells.heading(table, STYLE), "unsafehtml", cells.alignments(table))
    text = re.sub(r" *(</t[dh]>)", r"\1", re.sub(r"(<t[dh][^>]*>) *", r"\1", text))
    text = text.replace("<th", '<th scope="col"').replace('<th scope="col"ead>', "<thead>")
    # The first cell of a row becomes its heading, so that screen readers announce it.
    text = re.sub(r"<tr><td([^>]*)>(.*?)</td>", r'<tr><th scope="row"\1>\2</th>', text)
    lines = text.splitlines()
    first = lines.index("<tbody>") + 1
    for n in sorted({n_baselines, len(measured)} - {0, len(lines) - first - 2}, reverse=True):
        lines.insert(first + n, "</tbody>\n<tbody>")
    return "\n".join(lines)
