"""Floor 5: a table as text. Here alone fractions become percent and letters are escaped."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from csv import DictWriter
from dataclasses import dataclass

from tabulate import tabulate

from dmlbench.errors import UserError, suggest
from dmlbench.rows import UNTRAINED, Scalar
from dmlbench.table import Cell, Line, Table, differences, metric_label, shown, unsaid_differences

FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}  # and the suffix of a file in it
MISSING = "--"
DECIMALS = 1
LINE_LENGTH = 100


@dataclass(frozen=True)
class Style:
    """How a format writes what all have; `bold` and `marks` are templates of one field."""

    escape: Callable[[str], str]
    bold: str
    plus_minus: str
    marks: str
    count: str


def render(tables: Sequence[Table], format: str = "markdown") -> str:  # noqa: A002 -- the word on the command line
    """Write tables in the named format.

    Args:
        tables: what `table.compare` returned.
        format: one of `FORMATS`.

    Raises:
        UserError: the format is not known.
    """
    if format not in FORMATS:
        raise UserError(f"format={format} is no format of a table{suggest(format, FORMATS)}")
    return _WRITERS[format](tables)


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
            blocks[-1] += f"\n- {_markdown_text(name)}: {' | '.join(_markdown_text(shown(value)) for value in values)}"
    for number, (table, caption) in enumerate(zip(tables, _captions(tables), strict=True), 1):
        title = f"Table {number}. " if len(tables) > 1 else ""
        blocks.append(_filled(_markdown_text(title + caption)))
        blocks.append(_pipe_table(_body(table, _MARKDOWN)))
        if notes := _notes(table, _MARKDOWN):
            blocks.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def latex(tables: Sequence[Table]) -> str:
    r"""Write tables as complete LaTeX floats for a preamble with `\usepackage{booktabs}`.

    Args:
        tables: what `table.compare` returned.

    Returns:
        One `table` environment each; what sets several apart stands in their captions.
    """
    floats = ["% needs \\usepackage{booktabs}"]
    labels: list[str] = []
    for table, caption in zip(tables, _captions(tables), strict=True):
        name = "-".join(str(table.shared[column]) for column in ("dataset", "trunk", "protocol"))
        label = "tab:" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        labels.append(label)
        unique = label if labels.count(label) == 1 else f"{label}-{labels.count(label)}"
        floats.append(_latex_float(table, caption, unique))
    return "\n\n".join(floats) + "\n"


def csv(tables: Sequence[Table]) -> str:
    """Write every metric of every method as comma-separated values.

    Args:
        tables: what `table.compare` returned.

    Returns:
        One line a method and table: the shared columns, the method, its seeds, each metric's mean and half
        width as fractions, empty where missing, and the notes.
    """
    shared = list(dict.fromkeys(name for table in tables for name in table.shared))
    metrics = list(dict.fromkeys(metric for table in tables for metric in table.metrics))
    numbers = [column for metric in metrics for column in (metric, f"{metric}_half_width")]
    text = io.StringIO()
    writer = DictWriter(text, [*shared, *_METHOD_COLUMNS, *numbers, "notes"], lineterminator="\n")
    writer.writeheader()
    for table in tables:
        writer.writerows({**table.shared, **_csv_line(line)} for line in table.lines)
    return text.getvalue()


_WRITERS: dict[str, Callable[[Sequence[Table]], str]] = {"markdown": markdown, "latex": latex, "csv": csv}
_METHOD_COLUMNS = ("loss", "label", "method_digest", "n", "seeds")


def percent(cell: Cell | None, plus_minus: str = "±") -> str:
    """A cell in print.

    >>> percent(Cell(0.4812, 0.0071)), percent(Cell(0.4812, None)), percent(None)
    ('48.1 ± 0.7', '48.1', '--')
    """
    if cell is None:
        return MISSING
    mean = f"{100 * cell.mean:.{DECIMALS}f}"
    return mean if cell.half_width is None else f"{mean} {plus_minus} {100 * cell.half_width:.{DECIMALS}f}"


def _captions(tables: Sequence[Table]) -> list[str]:
    apart, unsaid = differences(tables), unsaid_differences(tables)
    captions = []
    for i, table in enumerate(tables):
        here = ", ".join(f"{name} = {shown(apart[name][i])}" for name in unsaid)
        bold = "; best method in bold" if table.alike and not table.even else ""
        captions.append(f"{table.caption}{f' Here {here}.' if here else ''} Numbers in %{bold}.")
    return captions


def _body(table: Table, style: Style) -> list[list[str]]:
    """The head and every line as text, the best printed number of each metric in bold (ties all of them)."""
    footnotes = _footnotes(table)
    body = [["Method", style.count, *(style.escape(metric_label(metric)) for metric in table.columns)]]
    for line in table.lines:
        marks = ", ".join(str(mark) for mark in sorted(footnotes[note] for note in line.notes))
        label = style.escape(line.label) + (style.marks.format(marks) if marks else "")
        body.append([label, str(line.n), *(_number(table, line, metric, style) for metric in table.columns)])
    return body


def _number(table: Table, line: Line, metric: str, style: Style) -> str:
    cell, best = line.cells.get(metric), table.best(metric)
    text = percent(cell, style.plus_minus)
    if cell is None or best is None or line.loss == UNTRAINED:
        return text
    marked = percent(Cell(cell.mean, None)) == percent(Cell(best, None)) or line.label in table.even.get(metric, ())
    return style.bold.format(text) if marked else text


def _footnotes(table: Table) -> dict[str, int]:
    """The number of each line's note; lines with the same note share it."""
    return {note: i for i, note in enumerate(dict.fromkeys(n for line in table.lines for n in line.notes), 1)}


def _notes(table: Table, style: Style) -> list[str]:
    numbered = [f"{style.marks.format(i).strip()} {style.escape(note)}" for note, i in _footnotes(table).items()]
    return numbered + [style.escape(note) for note in table.notes]


def _pipe_table(body: Sequence[Sequence[str]]) -> str:
    """Lay out a markdown table: methods to the left, numbers to the right, digits above digits.

    To that end a number that is not bold is padded by the width of the asterisks.
    """
    columns = []
    for column in zip(*body, strict=True):
        bold = any(cell.endswith("**") for cell in column)
        columns.append([f"{cell}  " if bold and not cell.endswith("**") else cell for cell in column])
    head, *lines = zip(*columns, strict=True)
    sides = ["left", *["right"] * (len(head) - 1)]
    return tabulate(lines, head, tablefmt="pipe", colalign=sides, disable_numparse=True, preserve_whitespace=True)


def _latex_float(table: Table, caption: str, label: str) -> str:
    head, *lines = (f"    {' & '.join(line)} \\\\" for line in _body(table, _LATEX))
    n_untrained = sum(line.loss == UNTRAINED for line in table.lines)
    if 0 < n_untrained < len(lines):
        lines.insert(n_untrained, r"    \midrule")
    notes = r" \\ ".join(_notes(table, _LATEX))
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"  \centering\small",
            rf"  \caption{{{_latex_text(caption)}}}",
            rf"  \label{{{label}}}",
            rf"  \begin{{tabular}}{{lr{'r' * len(table.columns)}}}",
            r"    \toprule",
            head,
            r"    \midrule",
            *lines,
            r"    \bottomrule",
            r"  \end{tabular}",
            *([rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
            r"\end{table}",
        ]
    )


def _csv_line(line: Line) -> dict[str, Scalar]:
    columns: dict[str, Scalar] = {name: getattr(line, name) for name in ("loss", "label", "method_digest", "n")}
    columns |= {"seeds": " ".join(map(str, line.seeds)), "notes": "; ".join(line.notes)}
    for metric, cell in line.cells.items():
        if cell is not None:
            columns |= {metric: cell.mean, f"{metric}_half_width": cell.half_width}
    return columns


def _filled(text: str) -> str:
    """Break a paragraph into lines, never between a number and its percent sign."""
    lines = textwrap.fill(text.replace(" %", "\u00a0%"), LINE_LENGTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\u00a0%", " %")


def _markdown_text(text: str) -> str:
    r"""Escape what markdown would read as markup; an underscore within a word is none.

    >>> print(_markdown_text("a|b *c* proxy_nca _target_"))
    a\|b \*c\* proxy_nca \_target\_
    """
    text = re.sub(r"([\\|*`<\[\]])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


_LATEX_LETTERS = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    # After the end of a line of a tabular these two would be read as its arguments.
    "[": "{[}",
    "*": "{*}",
}


def _latex_text(text: str) -> str:
    r"""Escape what LaTeX would read as a command.

    >>> print(_latex_text("50 % of R&D_1 ± 2"))
    50 \% of R\&D\_1 $\pm$ 2
    """
    return "".join(_LATEX_LETTERS.get(letter, letter) for letter in " ".join(text.split()))


_MARKDOWN = Style(_markdown_text, "**{}**", "±", " [{}]", "n")
_LATEX = Style(_latex_text, r"\textbf{{{}}}", r"$\pm$", r"\textsuperscript{{{}}}", "$n$")
