"""Tables of methods over learning rates: how much a ranking depends on the learning rate that all methods are given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.results.formatting import format_seeds
from dmlbench.results.row import BASELINES, Row
from dmlbench.tables.axis import Axis
from dmlbench.tables.caption import caption, dataset_label
from dmlbench.tables.confidence import t_interval
from dmlbench.tables.consistency import reasons
from dmlbench.tables.grouping import ORDER, group_except
from dmlbench.tables.ranks import ranks, spearman
from dmlbench.tables.row_labels import row_labels
from dmlbench.tables.table_row import Cell

# Columns in which the rows of a table may differ, with a value that stands for all of theirs.
_RATES: dict[str, Scalar] = {"loss_lr": None, "lr_from": "protocol", "protocol_lr": None}
# A rate of None is that of a method without training.
_ByRate = Mapping[float | None, Mapping[int, Row]]


@dataclass(frozen=True)
class RateRow:
    """One method over all learning rates.

    Args:
        label: Name in print, unique in the table.
        loss: Stem of the loss's file.
        cells: Learning rate to the mean over seeds; None for a missing value. For a baseline, the only rate is None.
        ranks: Learning rate to the rank of the method among those with a value at this rate, 1 for the best.
        best: Learning rate with the highest mean; None if there is none.
        notes: Footnotes, a clause each.
    """

    label: str
    loss: str
    cells: Mapping[float | None, Cell | None]
    ranks: Mapping[float | None, int]
    best: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RateTable:
    """Methods that differ in nothing but themselves and their learning rate.

    Args:
        metric: Metric that is printed.
        rates: Learning rates of the trunk, ascending.
        rows: Trained methods.
        baselines: Methods without training.
        correlations: Rate to Spearman's correlation of the methods' means with those at the rate before it; None for fewer
            than three methods.
        title: Data set and trunk in print.
        caption: Sentences above the table.
        notes: Sentences below the table, without a full stop.
    """

    metric: str
    rates: tuple[float, ...]
    rows: tuple[RateRow, ...]
    baselines: tuple[RateRow, ...]
    correlations: Mapping[float, float | None]
    title: str
    caption: str
    notes: tuple[str, ...]


def compare_rates(rows: Sequence[Row], metric: str = "map_at_r") -> list[RateTable]:
    """Make tables of methods over learning rates.

    Args:
        rows: Result rows in any order. The rate of a row is that of its method, or else of its protocol.
        metric: Metric to print.

    Returns:
        One table for each set of rows that agree in every other shared column and in which a method has several rates.

    Raises:
        UserError: No method has several rates, or no row has the metric.
    """
    columns = [_RATES, {name: value for name, value in _RATES.items() if name != "lr_from"}]
    parts = [[row for row in rows if _searched_differently(row) is differently] for differently in (False, True)]
    groups = [group for part, of_part in zip(parts, columns, strict=True) for group in group_except(part, of_part, metric)]
    found = [table for group in groups if (table := _table(group, metric)) is not None]
    if not found:
        raise UserError(
            "no method has results at several learning rates; run `dmlbench sweep sweep=lr_sensitivity`, then name the "
            "directory of its runs"
        )
    return found


def _searched_differently(row: Row) -> bool:
    """Whether the source of the rates says more than whose they are: which of them were not searched as in other rows."""
    return ": " in str(row.get("lr_from"))


def _table(group: Sequence[tuple[Row, Row]], metric: str) -> RateTable | None:
    methods: dict[str, tuple[Row, dict[float | None, dict[int, Row]]]] = {}
    for row, without in sorted(group, key=lambda pair: str(pair[0]["run_id"])):
        _, by_rate = methods.setdefault(json.dumps(without.method, sort_keys=True), (without, {}))
        rate = None if row["loss"] in BASELINES else rate_of(row)
        by_rate.setdefault(rate, {}).setdefault(row.seed, row)
    if max(len(by_rate) for _, by_rate in methods.values()) < 2:
        return None
    labels = row_labels([first for first, _ in methods.values()], Axis("loss"))
    seeds = {row.seed for row, _ in group}
    made = [_row(label, by_rate, metric, seeds) for label, (_, by_rate) in zip(labels, methods.values(), strict=True)]
    made.sort(key=lambda row: (ORDER.index(row.loss) if row.loss in ORDER else len(ORDER), row.label))
    trained = [row for row in made if row.loss not in BASELINES]
    rates = sorted({rate for row in trained for rate in row.cells if rate is not None})
    first = group[0][0]
    counts = {len(by_seed) for _, by_rate in methods.values() for by_seed in by_rate.values()}
    return RateTable(
        metric=metric,
        rates=tuple(rates),
        rows=tuple(_ranked(trained, rates)),
        baselines=tuple(row for row in made if row.loss in BASELINES),
        correlations={after: _correlation(trained, before, after) for before, after in pairwise(rates)},
        title=f"{dataset_label([first])}, {first.get('trunk_label') or first['trunk']}",
        caption=caption([without for _, without in group], Axis("loss", column="protocol_lr"), counts, ""),
        notes=tuple(note for row in made for note in row.notes),
    )


def rate_of(row: Row) -> float | None:
    """Return the learning rate of the trunk of a run: that of its method, or else of its protocol.

    Args:
        row: Result row.
    """
    own = row.number("loss_lr")
    return row.number("protocol_lr") if own is None else own


def _row(label: str, by_rate: _ByRate, metric: str, all_seeds: set[int]) -> RateRow:
    cells: dict[float | None, Cell | None] = {}
    notes = []
    for rate, by_seed in by_rate.items():
        values = [row.number(metric) if row.ok else None for row in by_seed.values()]
        numbers = [value for value in values if value is not None]
        cells[rate] = Cell(*t_interval(numbers)) if len(numbers) == len(values) else None
        at = "" if rate is None else f" at {rate:g}"
        missing = [seed for seed, value in zip(by_seed, values, strict=True) if value is None]
        notes += [f"{label}{at}: no result for {format_seeds(sorted(missing))}{reasons(by_seed.values())}"] if missing else []
        absent = sorted(all_seeds - set(by_seed))
        notes += [f"{label}{at}: no {format_seeds(absent)}, which other runs have"] if absent else []
    means = {rate: cell.mean for rate, cell in cells.items() if cell is not None and rate is not None}
    best = max(means, key=lambda rate: means[rate], default=None)
    loss = str(next(iter(next(iter(by_rate.values())).values()))["loss"])
    return RateRow(label, loss, cells, {}, best, tuple(notes))


def _ranked(rows: Sequence[RateRow], rates: Sequence[float]) -> list[RateRow]:
    at_rate = {rate: ranks([cell.mean if (cell := row.cells.get(rate)) else None for row in rows]) for rate in rates}
    return [
        replace(row, ranks={rate: rank for rate, found in at_rate.items() if (rank := found[i]) is not None})
        for i, row in enumerate(rows)
    ]


def _correlation(rows: Sequence[RateRow], before: float, after: float) -> float | None:
    pairs = [(a.mean, b.mean) for row in rows if (a := row.cells.get(before)) and (b := row.cells.get(after))]
    return spearman(*zip(*pairs, strict=True)) if len(pairs) > 2 else None
