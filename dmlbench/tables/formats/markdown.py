"""Tables as markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from dmlbench.tables.formats import cells
from dmlbench.tables.formats.cells import Style
from dmlbench.tables.table import Table
from dmlbench.tables.table_differences import difference_list, with_differences

LINE_LENGTH = 100


def markdown(tables: Sequence[Table]) -> str:
    """Write tables as markdown that is also readable as plain text.

    Args:
        tables: What `table.compare` returned.

    Returns:
        Caption, pipe table and footnotes of each. Several tables are preceded by a list of the columns in which they differ.
    """
    blocks = []
    if len(tables) > 1:
        heading, items = difference_list(tables)
        blocks.append("\n".join([heading, "", *(f"- {escape_prose(item)}" for item in items)]))
    for number, table in enumerate(with_differences(tables), 1):
        title = f"Table {number}. " if len(tables) > 1 else ""
        blocks.append(wrap(escape_prose(title + table.caption)))
        blocks.append(_pipe_table(table))
        if notes := cells.notes(table, STYLE):
            blocks.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    r"""Escape the characters that are special in a cell of a table.

    Args:
        text: Plain text.

    >>> print(escape("a|b *c* proxy_nca _target_"))
    a\|b \*c\* proxy_nca \_target\_
    """
    return escape_prose(text).replace("|", r"\|")


def escape_prose(text: str) -> str:
    r"""Escape the characters that are special outside of tables, and no others, because the text is also read in a terminal.

    An underscore within a word is not special, and brackets are special only in a link.

    Args:
        text: Plain text.

    >>> print(escape_prose("a | b: [0.9, 0.999] [1](page) _target_"))
    a | b: [0.9, 0.999] [1\](page) \_target\_
    """
    text = re.sub(r"([\\*`<]|\](?=[(\[:]))", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


STYLE = Style(escape, "**{}**", "±", " [{}]", "n")


def _pipe_table(table: Table) -> str:
    """Return the rows, and published rows below a rule. Markdown has no rules within a table, so it is a row of dashes."""
    heading, published = cells.heading(table, STYLE), cells.published_rows(table, STYLE)
    ruled = [["---"] * len(heading), *published] if published else []
    return cells.layout([*cells.rows(table, STYLE), *ruled], heading, "pipe", cells.alignments(table))


def wrap(text: str) -> str:
    """Break a paragraph into lines, but not between a number and its percent sign.

    Args:
        text: Paragraph.
    """
    wrapped = textwrap.fill(text.replace(" %", "\u00a0%"), LINE_LENGTH, break_long_words=False, break_on_hyphens=False)
    return wrapped.replace("\u00a0%", " %")
