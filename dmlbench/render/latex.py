"""Tables as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.render import body
from dmlbench.render.body import Style
from dmlbench.render.tex_letters import escaped
from dmlbench.table import Table

STYLE = Style(escaped, r"\textbf{{{}}}", r"$\pm$", r"\textsuperscript{{{}}}", "$n$")
# What a table is likely to take, in points: letters and gaps of \small, and the column of an article. One that would be shrunk
# below the least has its costs below its metrics.
_LETTER, _GAP, _COLUMN, _LEAST = 4.5, 8, 345, 0.7
_PLAIN = Style(str, "{}", "±", "{}", "n")
# A table is shrunk to the width of its column where it is wider, and only there.
_NO_WIDER_THAN_THE_COLUMN = r"  \resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}{%"


def latex(tables: Sequence[Table]) -> str:
    r"""Write tables as complete LaTeX floats for a preamble with `\usepackage{booktabs,graphicx}`.

    Args:
        tables: what `table.compare` returned.

    Returns:
        One `table` environment each, in ASCII; what sets several apart stands in their captions.
    """
    floats = ["% needs \\usepackage{booktabs,graphicx}"]
    labels: list[str] = []
    for table, caption in zip(tables, body.captions(tables), strict=True):
        name = "-".join(str(table.shared[column]) for column in ("dataset", "trunk", "protocol") if column in table.shared)
        label = "tab:" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        labels.append(label)
        unique = label if labels.count(label) == 1 else f"{label}-{labels.count(label)}"
        floats.append(_float(table, caption, unique))
    return "\n\n".join(floats) + "\n"


def _float(table: Table, caption: str, label: str) -> str:
    n_below = len(table.costs) if _costs_below(table) else 0
    head, lines = body.head(table, STYLE), body.lines(table, STYLE)
    n_columns, left = len(head) - n_below, body.n_left(table)
    blocks = _blocks([line[:n_columns] for line in (head, *lines)], table)
    if published := body.published(table, STYLE):
        blocks += [r"    \midrule", *(_line(line[:n_columns]) for line in published)]
    if n_below:
        empty = [""] * (n_columns - 1 - n_below)  # costs stand below the first metrics
        beside = [[line[0], *empty[:left], *line[n_columns:], *empty[left:]] for line in (head, *lines)]
        blocks += [r"    \bottomrule", r"    \addlinespace", r"    \toprule", *_blocks(beside, table)]
    notes = r" \\ ".join(body.notes(table, STYLE))
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"  \centering\small\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{5pt}",
            rf"  \caption{{{escaped(caption)}}}",
            rf"  \label{{{label}}}",
            _NO_WIDER_THAN_THE_COLUMN,
            rf"  \begin{{tabular}}{{{'l' * left}{'r' * (n_columns - left)}}}",
            r"    \toprule",
            *blocks,
            r"    \bottomrule",
            r"  \end{tabular}}",
            *([rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
            r"\end{table}",
        ]
    )


def _blocks(lines: Sequence[Sequence[str]], table: Table) -> list[str]:
    """A head and measured lines, the untrained trunk set apart."""
    head, *others = map(_line, lines)
    n_untrained = body.n_untrained(table)
    ruled = [*others[:n_untrained], r"    \midrule"] if n_untrained else []
    return [head, r"    \midrule", *ruled, *others[n_untrained:]]


def _line(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _costs_below(table: Table) -> bool:
    """Whether the table would be too wide with its costs beside its metrics, and has the columns to hold them below."""
    columns = list(zip(body.head(table, _PLAIN), *body.lines(table, _PLAIN), *body.published(table, _PLAIN), strict=True))
    width = sum(_GAP + _LETTER * max(map(len, column)) for column in columns)
    room = len(columns) - len(table.costs) - body.n_left(table) - 1
    return width > _COLUMN / _LEAST and 0 < len(table.costs) <= room
