"""What the printed formats share: the head, the lines, the footnotes and the caption, as text of one style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dmlbench.labels import metric_label, shown
from dmlbench.lines import Cell, Line
from dmlbench.published import Published
from dmlbench.table import Table, differences, unsaid_differences

MISSING = "--"
DECIMALS = 1
NOT_MADE_ALIKE = (
    "Below the rule: published results, not made alike (trunk, crops, tuning and choice of epoch differ); sources in the "
    "footnotes"
)


@dataclass(frozen=True)
class Style:
    """How a format writes what all have; `bold` and `marks` are templates of one field."""

    escape: Callable[[str], str]
    bold: str
    plus_minus: str
    marks: str
    count: str


def percent(cell: Cell | None, plus_minus: str = "±") -> str:
    """A cell in print.

    >>> percent(Cell(0.4812, 0.0071)), percent(Cell(0.4812, None)), percent(None)
    ('48.1 ± 0.7', '48.1', '--')
    """
    if cell is None:
        return MISSING
    mean = f"{100 * cell.mean:.{DECIMALS}f}"
    return mean if cell.half_width is None else f"{mean} {plus_minus} {100 * cell.half_width:.{DECIMALS}f}"


def captions(tables: Sequence[Table]) -> list[str]:
    """Each table's caption, with what sets it apart from the others."""
    apart, unsaid = differences(tables), unsaid_differences(tables)
    found = []
    for i, table in enumerate(tables):
        here = ", ".join(f"{name} = {shown(apart[name][i])}" for name in unsaid)
        bold = "; best method in bold" if table.alike and not table.even else ""
        found.append(f"{table.caption}{f' Here {here}.' if here else ''} Scores in %{bold}.")
    return found


def n_left(table: Table) -> int:
    """How many columns hold words and stand to the left: the method, and how it was chosen where that differs."""
    return 1 + table.chosen_apart


def head(table: Table, style: Style) -> list[str]:
    """The names of the columns: method, how it was chosen, n, metrics, oracle gap, costs."""
    left = ["Method", "Chosen"][: n_left(table)]
    metrics = [style.escape(metric_label(metric)) for metric in table.columns]
    gap = ["Oracle gap"] if table.oracle else []
    return [*left, style.count, *metrics, *gap, *(style.escape(cost.label) for cost in table.costs)]


def lines(table: Table, style: Style) -> list[list[str]]:
    """Every measured line as text, the best printed number of each metric in bold (ties all of them)."""
    footnotes, costs = _footnotes(table), _costs(table)
    found = []
    for i, line in enumerate(table.lines):
        marks = ", ".join(str(mark) for mark in sorted(footnotes[note] for note in line.notes))
        left = [style.escape(line.label) + (style.marks.format(marks) if marks else ""), style.escape(line.chosen or MISSING)]
        metrics = [_number(table, line, metric, style) for metric in table.columns]
        gap = [percent(line.oracle_gap, style.plus_minus)] if table.oracle else []
        found.append([*left[: n_left(table)], str(line.n), *metrics, *gap, *(column[i] for column in costs)])
    return found


def published(table: Table, style: Style) -> list[list[str]]:
    """Every line below the rule as text: numbers with the digits that were published, without interval, none of them bold."""
    footnotes = _footnotes(table)
    found = []
    for line in table.published:
        marks = ", ".join(str(footnotes[note]) for note in _notes_of(line))
        left = [style.escape(f"{line.label} ({line.size})") + style.marks.format(marks), MISSING]
        cells = [all_digits(line.values.get(metric)) for metric in table.columns]
        others = [MISSING] * (table.oracle + len(table.costs))
        found.append([*left[: n_left(table)], MISSING, *cells, *others])
    return found


def all_digits(value: float | None) -> str:
    """A fraction as percent with all its digits, one decimal at least.

    >>> all_digits(0.2955), all_digits(0.83), all_digits(None)
    ('29.55', '83.0', '--')
    """
    return MISSING if value is None else str(round(100 * value, 6))


def notes(table: Table, style: Style) -> list[str]:
    """The footnotes of lines by their numbers, then those of the whole table."""
    numbered = [f"{style.marks.format(i).strip()} {style.escape(note)}" for note, i in _footnotes(table).items()]
    below = [NOT_MADE_ALIKE] if table.published else []
    return numbered + [style.escape(note) for note in (*table.notes, *below)]


def n_untrained(table: Table) -> int:
    """How many lines at the top are the untrained trunk; 0 where there is nothing else to set them apart from."""
    untrained = sum(not line.trained for line in table.lines)
    return untrained if untrained < len(table.lines) else 0


def _number(table: Table, line: Line, metric: str, style: Style) -> str:
    cell, best = line.cells.get(metric), table.best(metric)
    text = percent(cell, style.plus_minus)
    if cell is None or best is None or not line.trained:
        return text
    marked = percent(Cell(cell.mean, None)) == percent(Cell(best, None)) or line.label in table.even.get(metric, ())
    return style.bold.format(text) if marked else text


def _costs(table: Table) -> list[list[str]]:
    """Each cost of all lines."""
    return [plain([line.costs.get(cost.name) for line in table.lines]) for cost in table.costs]


def plain(values: Sequence[float | None]) -> list[str]:
    """Numbers of one column in print: three digits of the greatest, and as many decimals for all.

    >>> plain([0.0, 116.24, None, 12345.6]), plain([1.416, 0.052]), plain([0.00249])
    (['0', '116', '--', '12,346'], ['1.42', '0.05'], ['0.00249'])
    """
    greatest = max((abs(value) for value in values if value is not None), default=0)
    decimals = min(max(2 - math.floor(math.log10(greatest)), 0), 6) if greatest else 0
    return [MISSING if value is None else f"{value:,.{decimals}f}" for value in values]


def _footnotes(table: Table) -> dict[str, int]:
    """The number of each line's note; lines with the same note share it."""
    measured = [note for line in table.lines for note in line.notes]
    sources = [note for line in table.published for note in _notes_of(line)]
    return {note: i for i, note in enumerate(dict.fromkeys(measured + sources), 1)}


def _notes_of(line: Published) -> list[str]:
    return [line.source.text, *([line.note] if line.note else [])]
