"""Tables as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.tables.formats import cells
from dmlbench.tables.formats.cells import Style
from dmlbench.tables.formats.latex_escape import escape
from dmlbench.tables.table import Table
from dmlbench.tables.table_differences import with_differences

STYLE = Style(escape, r"\textbf{{{}}}", r"$\pm$", r"\textsuperscript{{{}}}", "$n$")
# Shrinks a table to the width of its column if it is wider.
_FIT_WIDTH = r"\resizebox{\ifdim\width>\linewidth \linewidth\else\width\fi}{!}{%"


def latex(tables: Sequence[Table]) -> str:
    r"""Write tables as complete LaTeX floats, for a preamble with `\usepackage{booktabs,graphicx}`.

    Args:
        tables: What `table.compare` returned.

    Returns:
        One `table` environment per table, in ASCII. Notes name the columns that distinguish several tables.
    """
    floats = ["% needs \\usepackage{booktabs,graphicx}"]
    labels: list[str] = []
    for table in with_differences(tables):
        name = "-".join(str(table.shared[column]) for column in ("dataset", "trunk", "protocol") if column in table.shared)
        label = "tab:" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        labels.append(label)
        unique = label if labels.count(label) == 1 else f"{label}-{labels.count(label)}"
        floats.append(_float(table, unique))
    return "\n\n".join(floats) + "\n"


def _float(table: Table, label: str) -> str:
    """Return one float: the scores, and the costs below them. A single tabular would be too small to read."""
    heading, measured = cells.heading(table, STYLE), cells.rows(table, STYLE)
    n_baselines, align = cells.n_baselines(table), cells.alignments(table)
    parts = [measured[:n_baselines], measured[n_baselines:], cells.published_rows(table, STYLE)]
    n_scores = len(heading) - len(table.costs)
    tabulars = [_tabular(heading[:n_scores], [[row[:n_scores] for row in part] for part in parts], align[:n_scores])]
    if table.costs:
        costs = [[[row[0], *row[n_scores:]] for row in part] for part in parts[:2]]
        tabulars += [
            r"  \par\medskip\footnotesize",
            _tabular([heading[0], *heading[n_scores:]], costs, (align[0], *align[n_scores:])),
        ]
    notes = r" \\ ".join(cells.notes(table, STYLE))
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"  \centering\small\setlength{\tabcolsep}{4pt}",
            rf"  \caption{{{escape(table.caption)}}}",
            rf"  \label{{{label}}}",
            r"  \par\medskip",
            *tabulars,
            *([rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
            r"\end{table}",
        ]
    )


def _tabular(heading: Sequence[str], parts: Sequence[Sequence[Sequence[str]]], align: Sequence[str]) -> str:
    """Return a tabular of rows in parts, with a rule before each part."""
    filled = [part for part in parts if part]
    rows = [row for part in filled for row in part]
    text = cells.layout(rows, heading, "latex_raw", align)
    begin, _, head, _, *body, _, end = text.splitlines()  # the omitted lines are \hline
    lines = [begin, r"\toprule", head]
    for part in filled:
        lines += [r"\midrule", *body[: len(part)]]
        body = body[len(part) :]
    lines += [r"\bottomrule", f"{end}}}"]
    return "\n".join(f"  {line}" for line in (_FIT_WIDTH, *(re.sub(r"  +", " ", line) for line in lines)))
