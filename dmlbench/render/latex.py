"""Tables as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dmlbench.render import body
from dmlbench.render.body import Style
from dmlbench.render.tex_letters import escaped
from dmlbench.table import Table

STYLE = Style(escaped, r"\textbf{{{}}}", r"$\pm$", r"\textsuperscript{{{}}}", "$n$")
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
    """One float: the scores, below them the costs, which would make one table of both too small to read."""
    head, measured = body.head(table, STYLE), body.lines(table, STYLE)
    parts = [measured[: body.n_untrained(table)], measured[body.n_untrained(table) :], body.published(table, STYLE)]
    n_scores = len(head) - len(table.costs)
    tabulars = [_tabular(head[:n_scores], [[line[:n_scores] for line in part] for part in parts], body.n_left(table))]
    if table.costs:
        costs = [[[line[0], *line[n_scores:]] for line in part] for part in parts[:2]]
        tabulars += [r"  \par\medskip\footnotesize", _tabular([head[0], *head[n_scores:]], costs, 1)]
    notes = r" \\ ".join(body.notes(table, STYLE))
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"  \centering\small\setlength{\tabcolsep}{4pt}",
            rf"  \caption{{{escaped(caption)}}}",
            rf"  \label{{{label}}}",
            r"  \par\medskip",
            *tabulars,
            *([rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
            r"\end{table}",
        ]
    )


def _tabular(head: Sequence[str], parts: Sequence[Sequence[Sequence[str]]], n_left: int) -> str:
    """Lines in parts, a rule before each; the first columns hold words."""
    ruled = [[r"    \midrule", *(f"    {' & '.join(line)} \\\\" for line in part)] for part in parts if part]
    return "\n".join(
        [
            _NO_WIDER_THAN_THE_COLUMN,
            rf"  \begin{{tabular}}{{{'l' * n_left}{'r' * (len(head) - n_left)}}}",
            r"    \toprule",
            f"    {' & '.join(head)} \\\\",
            *(line for part in ruled for line in part),
            r"    \bottomrule",
            r"  \end{tabular}}",
        ]
    )
