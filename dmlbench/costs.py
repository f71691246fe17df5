"""Floor 3: what a line cost: time, memory and parameters, declared once.

A cost is a mean over seeds, in its own unit, without an interval, and decides nothing. Time, speed and memory are comparable
only between runs of one machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dmlbench.rows import UNTRAINED, Row


@dataclass(frozen=True)
class Cost:
    """One kind of cost.

    Args:
        name: of the quantity.
        label: in print, with its unit.
        columns: of a row, whose sum it is.
        scale: how many of the row's units make one in print.
        by_machine: whether another machine would have given another number.
        only_of_training: whether a run that trains nothing has none.
        only_of_tuning: whether a run whose method was not tuned has none.
    """

    name: str
    label: str
    columns: tuple[str, ...]
    scale: float = 1.0
    by_machine: bool = True
    only_of_training: bool = False
    only_of_tuning: bool = False

    def of(self, row: Row) -> float | None:
        """What a run cost; None where the row does not tell all of it.

        >>> PARAMETERS.columns, PARAMETERS.scale
        (('n_model_parameters', 'n_loss_parameters'), 1000000.0)
        """
        parts = [row.number(column) for column in self.columns]
        return None if None in parts else sum(part for part in parts if part is not None) / self.scale

    def expected(self, row: Row) -> bool:
        """Whether a run such as this has the cost at all, so that it is missing where the row does not tell it."""
        trained, tuned = row["loss"] != UNTRAINED, bool(row.get("tuning_trials"))
        return (trained or not self.only_of_training) and (tuned or not self.only_of_tuning)

    def mean(self, rows: Sequence[Row]) -> float | None:
        """The mean over the runs of a line; None where one does not tell it: no mean is taken over holes."""
        values = [self.of(row) for row in rows]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if len(known) == len(values) else None


PARAMETERS = Cost(
    "parameters of model and loss", "Par. (M)", ("n_model_parameters", "n_loss_parameters"), 1e6, by_machine=False
)
COSTS = (
    Cost("training seconds", "Train (s)", ("train_seconds",)),
    Cost("images/s", "Images/s", ("images_per_second",), only_of_training=True),
    Cost("memory", "GiB", ("memory_gib",)),
    PARAMETERS,
    Cost("hours of tuning", "Tuning (h)", ("tuned_hours",), only_of_training=True, only_of_tuning=True),
)


def costs_of(rows: Sequence[Row]) -> tuple[Cost, ...]:
    """The costs that at least one of the rows tells."""
    return tuple(cost for cost in COSTS if any(cost.of(row) is not None for row in rows))


def machines_apart(rows: Sequence[Row]) -> list[str]:
    """A note where time, speed and memory cannot be compared, for the rows come from several machines."""
    devices = {row["device"] for row in rows if row.get("device")}
    hosts = {row["hostname"] for row in rows if row.get("hostname")}
    if len(devices) <= 1 and len(hosts) <= 1:
        return []
    where = f"{len(hosts)} machines" if len(hosts) > 1 else f"{len(devices)} kinds of device"
    return [f"time, speed and memory are not comparable: the rows come from {where}"]
