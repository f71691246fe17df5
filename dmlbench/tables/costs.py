"""Time, memory and parameters of the methods of a table. Costs are means over seeds, without intervals.

Which columns are costs, and how they are printed, is declared in `column_specs`. Time, speed and memory are comparable only
between runs of one machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from dmlbench.results.column_specs import Column
from dmlbench.results.columns import TABLE_COSTS
from dmlbench.results.row import BASELINES, Row


def cost_of(row: Row, cost: Column) -> float | None:
    """Return a cost of a run in the printed unit; None if the row does not have it.

    Args:
        row: Result row.
        cost: Declaration of the cost.
    """
    parts = [row.number(name) for name in cost.sum_of or (cost.name,)]
    return None if None in parts else sum(part for part in parts if part is not None) / cost.scale


def is_expected(row: Row, cost: Column) -> bool:
    """Return whether a run of this kind should have a cost, so that its absence is reported.

    Args:
        row: Result row.
        cost: Declaration of the cost.
    """
    trained, tuned = row["loss"] not in BASELINES, bool(row.get("tuning_trials"))
    return {"": True, "training": trained, "tuning": trained and tuned}[cost.needs]


def mean_cost(rows: Sequence[Row], cost: Column) -> float | None:
    """Return the mean of a cost over runs; None if a run does not have it, because missing values are not averaged.

    Args:
        rows: Result rows of one method.
        cost: Declaration of the cost.
    """
    values = [cost_of(row, cost) for row in rows]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def costs_of(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the costs that tables print and that at least one row has.

    Args:
        rows: Result rows of a table.
    """
    return tuple(cost for cost in TABLE_COSTS if any(cost_of(row, cost) is not None for row in rows))


def machine_warning(rows: Sequence[Row]) -> list[str]:
    """Return a clause if costs cannot be compared because the rows come from several machines.

    Args:
        rows: Result rows of a table.
    """
    devices = {row["device"] for row in rows if row.get("device")}
    names = ("hostname", "cpu_model")  # published rows do not name their machine
    machines = max(len({row[name] for row in rows if row.get(name)}) for name in names)
    if len(devices) <= 1 and machines <= 1:
        return []
    origin = f"{machines} machines" if machines > 1 else f"{len(devices)} kinds of device"
    return [f"time, speed and memory are not comparable because the rows come from {origin}"]
