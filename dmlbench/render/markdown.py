"""Tables as markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from unicodedata import combining, east_asian_width

from dmlbench.labels import shown
from dmlbench.render import body
from dmlbench.render.body import Style
from dmlbench.table import Table, differences

LINE_LENGTH = 100


def markdown(tables: Sequence[Table]) -> str:
    """Write tables as markdown that also reads well as plain text.

    Args:
        tables: what `table.compare` returned.

    Returns:
        Caption, pipe table and footnotes of each; before several, a list of what sets them apart.
    """
    blocks = []
    if len(tables) > 1:
        blocks.append(f"{len(tables)} tables, for their rows differ in (table 1 | table 2 ...):\n")
        for name, values in differences(tables).items():
            blocks[-1] += f"\n- {escaped(name)}: {' | '.join(escaped(shown(value)) for value in values)}"
    for number, (table, caption) in enumerate(zip(tables, body.captions(tables), strict=True), 1):
        title = f"Table {number}. " if len(tables) > 1 else ""
        blocks.append(_filled(escaped(title + caption)))
        blocks.append(_pipe_table(table))
        if notes := body.notes(table, STYLE):
            blocks.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    r"""Escape what markdown would read as markup; an underscore within a word is none.

    >>> print(escaped("a|b *c* proxy_nca _target_"))
    a\|b \*c\* proxy_nca \_target\_
    """
    text = re.sub(r"([\\|*`<\[\]])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


STYLE = Style(escaped, "**{}**", "±", " [{}]", "n")


def _pipe_table(table: Table) -> str:
    """Lay out a table: words to the left, numbers to the right, digits above digits.

    To that end a number that is not bold is padded by the width of the asterisks.
    """
    n_left, head = body.n_left(table), body.head(table, STYLE)
    below = body.published(table, STYLE)
    ruled = [["---"] * len(head), *below] if below else []
    columns = []
    for i, column in enumerate(zip(head, *body.lines(table, STYLE), *ruled, strict=True)):
        bold = any(cell.endswith("**") for cell in column)
        cells = [f"{cell}  " if bold and not cell.endswith("**") else cell for cell in column]
        width = max(map(_width, cells))
        rule = f":{'-' * (width + 1)}" if i < n_left else f"{'-' * (width + 1)}:"
        padding = [" " * (width - _width(cell)) for cell in cells]
        cells = [cell + pad if i < n_left else pad + cell for cell, pad in zip(cells, padding, strict=True)]
        first, *others = (f" {cell} " for cell in cells)
        columns.append([first, rule, *others])
    return "\n".join(f"|{'|'.join(line)}|" for line in zip(*columns, strict=True))


def _width(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese, Japanese and Korean letters two, accents that are added none."""
    return sum(2 if east_asian_width(letter) in "FW" else 0 if combining(letter) else 1 for letter in text)


def _filled(text: str) -> str:
    """Break a paragraph into lines, never between a number and its percent sign."""
    lines = textwrap.fill(text.replace(" %", "\u00a0%"), LINE_LENGTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\u00a0%", " %")
