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
    head, *lines = (f"    {' & '.join(line)} \\\\" for line in (body.head(table, STYLE), *body.lines(table, STYLE)))
    if n_untrained := body.n_untrained(table):
        lines.insert(n_untrained, r"    \midrule")
    if below := body.published(table, STYLE):
        lines += [r"    \midrule", *(f"    {' & '.join(line)} \\\\" for line in below)]
    notes = r" \\ ".join(body.notes(table, STYLE))
    left = body.n_left(table)
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"  \centering\small",
            rf"  \caption{{{escaped(caption)}}}",
            rf"  \label{{{label}}}",
            _NO_WIDER_THAN_THE_COLUMN,
            rf"  \begin{{tabular}}{{{'l' * left}{'r' * (len(body.head(table, STYLE)) - left)}}}",
            r"    \toprule",
            head,
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}}",
            *([rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
            r"\end{table}",
        ]
    )
