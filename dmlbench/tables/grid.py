"""Tables of one method over two hyper-parameters: how much its result depends on both of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.results.formatting import format_seeds, format_value
from dmlbench.results.row import BASELINES, Row
from dmlbench.tables.axis import Axis, find_axis
from dmlbench.tables.caption import caption, dataset_label
from dmlbench.tables.confidence import t_interval
from dmlbench.tables.consistency import reasons
from dmlbench.tables.grouping import group_except
from dmlbench.tables.row_labels import row_labels
from dmlbench.tables.table_row import Cell

_BySeed = Mapping[int, Row]
_Point = tuple[Scalar, Scalar]


@dataclass(frozen=True)
class GridTable:
    """One method over two hyper-parameters, with everything else equal.

    Args:
        label: Method in print.
        loss: Stem of the loss's file.
        metric: Metric that is printed.
        keys: Keys of the two hyper-parameters, such as `loss.make.alpha`: down the rows, and across the columns.
        values: Values of each, ascending.
        cells: Values of both to the mean over seeds; None for a missing value, and no entry if there is no run.
        best: Values of both with the highest mean; None if there is none.
        baselines: Label of each method without training to its mean.
        title: Method, data set and trunk in print.
        caption: Sentences above the table.
        notes: Sentences below the table, without a full stop.
    """

    label: str
    loss: str
    metric: str
    keys: tuple[str, str]
    values: tuple[tuple[Scalar, ...], tuple[Scalar, ...]]
    cells: Mapping[_Point, Cell | None]
    best: _Point | None
    baselines: Mapping[str, Cell | None]
    title: str
    caption: str
    notes: tuple[str, ...]


def compare_grid(rows: Sequence[Row], keys: tuple[str, str], metric: str = "map_at_r") -> list[GridTable]:
    """Make tables of methods over two hyper-parameters.

    Args:
        rows: Result rows in any order.
        keys: Keys of the two values, such as `loss.make.alpha` and `loss.make.beta`.
        metric: Metric to print.

    Returns:
        One table for each method, and for each set of rows that agree in every other shared column.

    Raises:
        UserError: A key is unknown, no method has several values of both, or no row has the metric.
    """
    axes = _axes(keys, rows)
    owned: dict[str, Scalar] = {name: None for axis in axes for name in (str(axis.column), *axis.followers)}
    found = [table for group in group_except(rows, owned, metric) for table in _tables(group, axes, metric)]
    if not found:
        raise UserError(
            f"no method has results at several values of both {keys[0]} and {keys[1]}; run `dmlbench sweep` with a list of "
            f"values for each, such as {keys[0]}=1,2 {keys[1]}=1,2, then name the directory of its runs"
        )
    return found


def _axes(keys: tuple[str, str], rows: Sequence[Row]) -> tuple[Axis, Axis]:
    """The axes of two different values."""
    if len(set(keys)) < 2:
        raise UserError(f"--by {','.join(keys)} needs two different values, such as loss.make.alpha,loss.make.beta")
    try:
        first, second = (find_axis(key, rows) for key in keys)
    except UserError as error:
        raise UserError(str(error).replace("--vary", "--by")) from None
    for axis in (first, second):
        if axis.column is None:
            raise UserError(f"--by {','.join(keys)} needs two single values, such as loss.make.alpha; use --vary {axis.name}")
    return first, second


def _tables(group: Sequence[tuple[Row, Row]], axes: tuple[Axis, Axis], metric: str) -> list[GridTable]:
    """The tables of rows that agree in every other shared column: one for each method with several values of both."""
    methods: dict[str, tuple[Row, dict[_Point, dict[int, Row]]]] = {}
    baselines: dict[str, dict[int, Row]] = {}
    for row, without in sorted(group, key=lambda pair: str(pair[0]["run_id"])):
        if row["loss"] in BASELINES:
            baselines.setdefault(str(row.get("loss_label") or row["loss"]), {}).setdefault(row.seed, row)
        elif all(axis.column in row.columns for axis in axes):
            _, by_point = methods.setdefault(json.dumps(without.method, sort_keys=True), (without, {}))
            point = (axes[0].value(row), axes[1].value(row))
            by_point.setdefault(point, {}).setdefault(row.seed, row)
    several = [one for one in methods.values() if all(len({point[i] for point in one[1]}) > 1 for i in (0, 1))]
    labels = row_labels([first for first, _ in several], Axis("loss"))
    untrained = {label: _cell(by_seed, metric) for label, by_seed in baselines.items()}
    others = Counter(first["loss"] for first, _ in methods.values())
    others.subtract(first["loss"] for first, _ in several)
    return [
        _table(label, one, axes, metric, untrained, others[one[0]["loss"]]) for label, one in zip(labels, several, strict=True)
    ]


def _table(
    label: str,
    method: tuple[Row, Mapping[_Point, _BySeed]],
    axes: tuple[Axis, Axis],
    metric: str,
    baselines: Mapping[str, Cell | None],
    n_others: int,
) -> GridTable:
    first, by_point = method
    values = (_sorted(point[0] for point in by_point), _sorted(point[1] for point in by_point))
    cells = {point: _cell(by_seed, metric) for point, by_seed in by_point.items()}
    means = {point: cell.mean for point, cell in cells.items() if cell is not None}
    rows = [row for by_seed in by_point.values() for row in by_seed.values()]
    followers = [str(axes[1].column), *axes[0].followers, *axes[1].followers]
    axis = Axis("loss", column=axes[0].column, followers=tuple(followers))
    keys = (axes[0].name, axes[1].name)
    return GridTable(
        label=label,
        loss=str(first["loss"]),
        metric=metric,
        keys=keys,
        values=values,
        cells=cells,
        best=max(means, key=lambda point: means[point], default=None),
        baselines=baselines,
        title=f"{label} on {dataset_label([first])}, {first.get('trunk_label') or first['trunk']}",
        caption=caption(rows, axis, {len(by_seed) for by_seed in by_point.values()}, ""),
        notes=(*_notes(by_point, values, keys, metric), *_left_out(str(first["loss"]), n_others)),
    )


def _sorted(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """Different values, numbers by size and before other values."""

    def key(value: Scalar) -> tuple[bool, float, str]:
        is_number = isinstance(value, int | float)
        return not is_number, float(value) if is_number else 0.0, str(value)  # type: ignore[arg-type]

    return tuple(sorted(set(values), key=key))


def _cell(by_seed: _BySeed, metric: str) -> Cell | None:
    numbers = [row.number(metric) if row.ok else None for row in by_seed.values()]
    known = [number for number in numbers if number is not None]
    return Cell(*t_interval(known)) if known and len(known) == len(numbers) else None


def _notes(
    by_point: Mapping[_Point, _BySeed],
    values: tuple[tuple[Scalar, ...], tuple[Scalar, ...]],
    keys: tuple[str, str],
    metric: str,
) -> list[str]:
    """Which results are missing, a clause each."""
    all_seeds = {seed for by_seed in by_point.values() for seed in by_seed}
    notes, absent = [], []
    for point in product(*values):
        at = ", ".join(f"{short(key)} {value_text(value)}" for key, value in zip(keys, point, strict=True))
        by_seed = by_point.get(point, {})
        if not by_seed:
            absent.append(at)
            continue
        without = sorted(seed for seed, row in by_seed.items() if not row.ok or row.number(metric) is None)
        notes += [f"At {at}: no result for {format_seeds(without)}{reasons(by_seed.values())}"] if without else []
        missing = sorted(all_seeds - set(by_seed))
        notes += [f"At {at}: no {format_seeds(missing)}, which other runs have"] if missing else []
    return [*notes, *([f"No run at {'; '.join(absent)}"] if absent else [])]


def _left_out(loss: str, n: int) -> list[str]:
    """A clause about variants of the method that have only one value of a hyper-parameter."""
    what = "variant of the method, with another value of something else, is" if n == 1 else "variants of the method are"
    return (
        [f"{n} {what} not in this table: too few values of both for a grid; `dmlbench table {loss}` prints them"] if n else []
    )


def value_text(value: Scalar) -> str:
    """Return a value of a hyper-parameter in print; 2 and 2.0 are the same.

    Args:
        value: The value.

    >>> value_text(2.0), value_text(2), value_text(0.25), value_text(True), value_text(None)
    ('2', '2', '0.25', 'True', 'none')
    """
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else format_value(value)


def short(key: str) -> str:
    """Return the last part of a key.

    Args:
        key: Key of a value.

    >>> short("loss.make.alpha")
    'alpha'
    """
    return key.rpartition(".")[2]
