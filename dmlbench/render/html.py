"""Tables as one HTML page that needs nothing else: no script, no font, no network; light or dark as its reader has it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dmlbench.labels import shown
from dmlbench.render import body
from dmlbench.render.body import Style
from dmlbench.table import Table, differences

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
th, td { padding: 0.25rem 0.45rem; text-align: right; font-weight: normal; white-space: nowrap; }
th.words, td.words { text-align: left; }
thead { border-bottom: 1px solid var(--ink); }
tbody + tbody { border-top: 1px solid var(--rule); }
.cost { color: var(--pale); }
th.first, td.first { padding-left: 1.6rem; }
sup { line-height: 0; }
.notes { max-width: 50rem; padding: 0; list-style: none; color: var(--pale); font-size: 0.9rem; }
"""


def html(tables: Sequence[Table]) -> str:
    """Write tables as one self-contained HTML page.

    Args:
        tables: what `table.compare` returned.

    Returns:
        Caption, table and footnotes of each; before several, a list of what sets them apart.
    """
    datasets = ", ".join(dict.fromkeys(shown(table.shared["dataset"]) for table in tables))
    figures = [_figure(table, caption, number, len(tables)) for number, (table, caption) in _numbered(tables)]
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
            *_apart(tables),
            *figures,
            "</body>",
            "</html>\n",
        ]
    )


def _numbered(tables: Sequence[Table]) -> enumerate[tuple[Table, str]]:
    return enumerate(zip(tables, body.captions(tables), strict=True), 1)


def _apart(tables: Sequence[Table]) -> list[str]:
    """What sets several tables apart."""
    if len(tables) < 2:
        return []
    said = [
        f"<li>{escape(name)}: {' | '.join(escape(shown(value)) for value in values)}</li>"
        for name, values in differences(tables).items()
    ]
    return [f"<p>{len(tables)} tables, for their rows differ in (table 1 | table 2 ...):</p>", "<ul>", *said, "</ul>"]


def _figure(table: Table, caption: str, number: int, n_tables: int) -> str:
    title = f"<strong>Table {number}.</strong> " if n_tables > 1 else ""
    lines = [_line(cells, table) for cells in body.lines(table, STYLE)]
    n_untrained = body.n_untrained(table)
    below = [_line(cells, table) for cells in body.published(table, STYLE)]
    parts = [part for part in (lines[:n_untrained], lines[n_untrained:], below) if part]
    notes = [f"<li>{note}</li>" for note in body.notes(table, STYLE)]
    return "\n".join(
        [
            "<figure>",
            f"<figcaption>{title}{escape(caption)}</figcaption>",
            '<div class="wide">',
            "<table>",
            f"<thead>\n{_line(body.head(table, STYLE), table, head=True)}\n</thead>",
            *("\n".join(["<tbody>", *part, "</tbody>"]) for part in parts),
            "</table>",
            "</div>",
            *(['<ul class="notes">', *notes, "</ul>"] if notes else []),
            "</figure>",
        ]
    )


def _line(cells: Sequence[str], table: Table, head: bool = False) -> str:
    """A line of the table; its first cell names it, as the cells of the head name their columns."""
    first_cost = len(cells) - len(table.costs)
    found = []
    for i, cell in enumerate(cells):
        names = ["words"] if i < body.n_left(table) else ["cost"] if i >= first_cost else []
        names += ["first"] if i == first_cost else []
        scope = "col" if head else "row" if i == 0 else ""
        tag = "th" if scope else "td"
        attributes = {"scope": scope, "class": " ".join(names)}
        said = "".join(f' {name}="{value}"' for name, value in attributes.items() if value)
        found.append(f"<{tag}{said}>{cell}</{tag}>")
    return f"<tr>{''.join(found)}</tr>"
