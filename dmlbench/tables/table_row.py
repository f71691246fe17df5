"""A row of a table: the runs of one method, one per seed, as means with intervals, costs and footnotes.

No mean is taken over missing values: such a cell is empty, and a footnote says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dmlbench.results.column_specs import Column
from dmlbench.results.formatting import format_seeds, metric_label
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import BASELINES, MISSING, Row
from dmlbench.tables.caption import selection_of
from dmlbench.tables.confidence import t_interval
from dmlbench.tables.costs import cost_of, is_expected, mean_cost
from dmlbench.tables.drawn_queries import drawn_queries, has_query_interval, query_interval
from dmlbench.tables.warnings import warnings_of

ORACLE = "oracle_map_at_r"


@dataclass(frozen=True)
class Cell:
    """A metric of one method.

    Args:
        mean: Mean over its seeds, a fraction.
        half_width: Half width of the 95 % interval, a fraction; None for one seed.
    """

    mean: float
    half_width: float | None


@dataclass(frozen=True)
class TableRow:
    """One method: a loss and its hyper-parameters.

    Args:
        label: Name in print, unique in the table.
        loss: Stem of the loss's file.
        method_digest: 8 hex digits that identify the hyper-parameters.
        seeds: Seeds with results, ascending.
        cells: Metric to `Cell`, or None if a value is missing.
        notes: Footnotes, a clause each.
        selection: How the models were selected, briefly; empty if unknown.
        costs: Name of a cost to its mean over seeds, in the printed unit, or None if a value is missing.
        oracle_gap: Additional MAP@R that choosing the epoch on the test set would have claimed.
        rows: Result rows, one per seed, ascending, including failed ones.
        inconsistent: Which result rows contradict themselves, a clause; empty if none does.
    """

    label: str
    loss: str
    method_digest: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell | None]
    notes: tuple[str, ...] = ()
    selection: str = ""
    costs: Mapping[str, float | None] = field(default_factory=dict)
    oracle_gap: Cell | None = None
    rows: tuple[Row, ...] = ()
    inconsistent: str = ""

    @property
    def n(self) -> int:
        """Number of seeds with results."""
        return len(self.seeds)

    @property
    def trained(self) -> bool:
        """Whether it is a trained method, and not a baseline."""
        return self.loss not in BASELINES


def make_table_row(
    label: str, rows: Sequence[Row], metrics: Sequence[str], printed: Sequence[str], all_seeds: set[int]
) -> TableRow:
    """Make the table row of one method.

    Args:
        label: Name in print.
        rows: Result rows, one per seed, ascending.
        metrics: All metrics of the rows.
        printed: Metrics to print; missing values of these get a footnote.
        all_seeds: Seeds of all methods.
    """
    ok = [row for row in rows if row.ok]
    complete = len(ok) == len(rows)
    cells = {metric: _cell(rows, metric) if complete else None for metric in metrics}
    reasons: dict[str, list[int]] = {}
    for row in rows:
        if not row.ok:
            status = MISSING if row["status"] == MISSING else "failed"
            reasons.setdefault(f"{status}: {row.get('reason') or 'no reason given'}", []).append(row.seed)
    notes = [f"{_seeds(seeds)} {reason}" for reason, seeds in reasons.items()]
    for metric in printed:
        if complete and cells.get(metric) is None and _is_expected(metric, rows):
            notes.append(_missing(metric_label(metric), [row for row in rows if row.number(metric) is None]))
    notes += _unread_queries(rows, [metric for metric in printed if complete and cells.get(metric) is not None])
    if absent := all_seeds - {row.seed for row in rows}:
        notes.append(f"no {_seeds(absent)}, which other methods have")
    notes += warnings_of(ok)
    return TableRow(
        label=label,
        loss=str(rows[0]["loss"]),
        method_digest=str(rows[0]["method_digest"]),
        seeds=tuple(row.seed for row in ok),
        cells=cells,
        notes=tuple(notes),
        selection=selection_of(rows),
        rows=tuple(rows),
    )


def _is_expected(metric: str, rows: Sequence[Row]) -> bool:
    """Whether a metric is missing if a row does not have it. Only methods that predict attributes have metrics of them."""
    found = parse_metric(metric)
    return found is None or found.spec.kind != "attributes" or any(row.get("loss_attributes") == "predicted" for row in rows)


def selection_differs(rows: Iterable[TableRow]) -> bool:
    """Return whether trained methods differ in how their models were selected.

    Args:
        rows: Rows of a table.
    """
    return len({row.selection for row in rows if row.trained and row.selection}) > 1


def with_costs(row: TableRow, costs: Sequence[Column]) -> TableRow:
    """Return a table row with its costs. A method with a failed run has none, because that run was incomplete.

    Args:
        row: Row of the table.
        costs: Costs to print.
    """
    if row.n < len(row.rows):
        return replace(row, costs=dict.fromkeys(cost.name for cost in costs))
    means = {cost.name: mean_cost(row.rows, cost) for cost in costs}
    missing: dict[tuple[int, ...], list[str]] = {}  # costs that are missing for the same seeds share a footnote
    for cost in costs:
        if seeds := tuple(one.seed for one in row.rows if is_expected(one, cost) and cost_of(one, cost) is None):
            missing.setdefault(seeds, []).append(cost.heading)
    notes = [f"no {', '.join(names)} for {_seeds(seeds)}" for seeds, names in missing.items()]
    return replace(row, costs=means, notes=(*row.notes, *notes))


def with_consistency(row: TableRow, note: str) -> TableRow:
    """Return a table row that is marked if a result row contradicts itself.

    Args:
        row: Row of the table.
        note: Which result rows contradict themselves, a clause; empty if none does.
    """
    return replace(row, inconsistent=note, notes=(note, *row.notes)) if note else row


def with_oracle_gap(row: TableRow, oracle: bool) -> TableRow:
    """Return a table row with its oracle gap. A baseline has none.

    Args:
        row: Row of the table.
        oracle: Whether the oracle gap is printed.
    """
    if not oracle or not row.trained or row.n < len(row.rows):
        return row
    if without := [one for one in row.rows if _oracle_gap(one) is None]:
        return replace(row, notes=(*row.notes, _missing("oracle gap", without)))
    return replace(row, oracle_gap=_mean(_oracle_gap(one) for one in row.rows))


def _oracle_gap(row: Row) -> float | None:
    claimed, reported = row.number(ORACLE), row.number("map_at_r")
    return None if claimed is None or reported is None else claimed - reported


def _missing(what: str, rows: Iterable[Row]) -> str:
    return f"no {what} for {_seeds(row.seed for row in rows)}"


def _mean(values: Iterable[float | None]) -> Cell | None:
    """Return the cell of one value per seed; None if a value is missing."""
    per_seed = list(values)
    numbers = [value for value in per_seed if value is not None]
    return Cell(*t_interval(numbers)) if len(numbers) == len(per_seed) else None


def _cell(rows: Sequence[Row], metric: str) -> Cell | None:
    """Return the cell of one row per seed. On drawn queries, the interval is over seeds and queries, if there are scores."""
    drawn = all(drawn_queries(row) is not None for row in rows) and has_query_interval(metric)
    if drawn and (found := query_interval(rows, metric)) is not None:
        return Cell(*found)
    return _mean(row.number(metric) for row in rows)


def _unread_queries(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    """Return which intervals of a method are over seeds only, because scores of its drawn queries are missing."""
    if not any(drawn_queries(row) is not None for row in rows):
        return []
    unread = [metric for metric in metrics if has_query_interval(metric) and query_interval(rows, metric) is None]
    names = ", ".join(map(metric_label, unread))
    return [f"the intervals of {names} are over seeds only: scores of the drawn queries are missing"] if unread else []


def _seeds(seeds: Iterable[int]) -> str:
    return format_seeds(sorted(seeds))
