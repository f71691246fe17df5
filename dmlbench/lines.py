"""Floor 3.7: a line of a table: the runs of one method, a seed each, as means with intervals, costs and notes.

A hole is never averaged over: it is a missing cell, and a note says how it came about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from dmlbench.caption import chosen
from dmlbench.costs import Cost
from dmlbench.labels import metric_label
from dmlbench.rows import MISSING, UNTRAINED, Row
from dmlbench.sentinels import sentinels
from dmlbench.stats import t_interval

ORACLE = "oracle_map_at_r"  # what choosing the epoch on the test set would have claimed


@dataclass(frozen=True)
class Cell:
    """One method's metric: the mean over its seeds and its 95 % interval's half width, both fractions."""

    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Line:
    """One method: a loss and its values.

    Args:
        label: its name in print, unlike every other line's in the table.
        seeds: the seeds that ended with numbers, ascending.
        cells: metric to Cell, or None where a number is missing.
        notes: what a reader must know of this line, a clause each.
        chosen: how its models were, briefly; empty where no row tells.
        costs: name of a cost to its mean over seeds, in the unit of print, or None where a number is missing.
        oracle_gap: what choosing the epoch on the test set would have claimed in MAP@R, above what is reported.
        rows: that it was made of, one a seed, ascending; those that failed among them.
    """

    label: str
    loss: str
    method_digest: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell | None]
    notes: tuple[str, ...] = ()
    chosen: str = ""
    costs: Mapping[str, float | None] = field(default_factory=dict)
    oracle_gap: Cell | None = None
    rows: tuple[Row, ...] = ()

    @property
    def n(self) -> int:
        """How many seeds ended with numbers."""
        return len(self.seeds)

    @property
    def trained(self) -> bool:
        """Whether it is a method, and not the trunk as it came."""
        return self.loss != UNTRAINED


def line_of(label: str, rows: Sequence[Row], metrics: Sequence[str], columns: Sequence[str], everyone: set[int]) -> Line:
    """The line of one method.

    Args:
        label: its name in print.
        rows: one a seed, ascending.
        metrics: of the rows.
        columns: those that will be printed, whose holes are told.
        everyone: the seeds of all methods.
    """
    ok = [row for row in rows if row.ok]
    whole = len(ok) == len(rows)
    cells = {metric: _cell(rows, metric) if whole else None for metric in metrics}
    holes: dict[str, list[int]] = {}
    for row in rows:
        if not row.ok:
            how = MISSING if row["status"] == MISSING else "failed"
            holes.setdefault(f"{how}: {row.get('reason') or 'no reason given'}", []).append(seed_of(row))
    notes = [f"{_seeds(seeds)} {reason}" for reason, seeds in holes.items()]
    for metric in columns:
        if whole and cells.get(metric) is None:
            notes.append(_lacking(metric_label(metric), [row for row in rows if row.number(metric) is None]))
    if lacking := everyone - {seed_of(row) for row in rows}:
        notes.append(f"lacks {_seeds(lacking)}, which other methods have")
    notes += sentinels(ok)
    return Line(
        label=label,
        loss=str(rows[0]["loss"]),
        method_digest=str(rows[0]["method_digest"]),
        seeds=tuple(seed_of(row) for row in ok),
        cells=cells,
        notes=tuple(notes),
        chosen=chosen(rows),
        rows=tuple(rows),
    )


def chosen_apart(lines: Iterable[Line]) -> bool:
    """Whether lines differ in how their models were chosen; one that never ended does not tell it."""
    return len({line.chosen for line in lines if line.trained and line.chosen}) > 1


def with_costs(line: Line, costs: Sequence[Cost]) -> Line:
    """The line with its costs; of a method that failed on the way they would be of half a run, so it has none."""
    if line.n < len(line.rows):
        return replace(line, costs=dict.fromkeys(cost.name for cost in costs))
    means = {cost.name: cost.mean(line.rows) for cost in costs}
    missing: dict[tuple[int, ...], list[str]] = {}  # what the same seeds lack shares a note
    for cost in costs:
        if seeds := tuple(seed_of(row) for row in line.rows if cost.expected(row) and cost.of(row) is None):
            missing.setdefault(seeds, []).append(cost.name)
    notes = [f"no {', '.join(names)} for {_seeds(seeds)}" for seeds, names in missing.items()]
    return replace(line, costs=means, notes=(*line.notes, *notes))


def with_oracle_gap(line: Line, oracle: bool) -> Line:
    """The line with its oracle gap, if it is asked for; what trains nothing has no epoch to choose."""
    if not oracle or not line.trained or line.n < len(line.rows):
        return line
    if without := [row for row in line.rows if _oracle_gap(row) is None]:
        return replace(line, notes=(*line.notes, _lacking("oracle gap", without)))
    return replace(line, oracle_gap=_mean(_oracle_gap(row) for row in line.rows))


def _oracle_gap(row: Row) -> float | None:
    claimed, reported = row.number(ORACLE), row.number("map_at_r")
    return None if claimed is None or reported is None else claimed - reported


def _lacking(what: str, rows: Iterable[Row]) -> str:
    return f"no {what} for {_seeds(seed_of(row) for row in rows)}"


def _cell(rows: Sequence[Row], metric: str) -> Cell | None:
    return _mean(row.number(metric) for row in rows)


def _mean(values: Iterable[float | None]) -> Cell | None:
    """A cell of one value a seed; None where one is missing."""
    each = list(values)
    numbers = [value for value in each if value is not None]
    return Cell(*t_interval(numbers)) if len(numbers) == len(each) else None


def _seeds(seeds: Iterable[int]) -> str:
    """`seed 1` or `seeds 1, 2`."""
    names = [str(seed) for seed in sorted(seeds)]
    return f"seed{'s' if len(names) > 1 else ''} {', '.join(names)}"


def seed_of(row: Row) -> int:
    """The seed of a run."""
    return cast(int, row["seed"])
