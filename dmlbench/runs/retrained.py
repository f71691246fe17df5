"""Find rows that another machine has reproduced: the tier `retrained`. Imports neither torch nor Hydra."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from dmlbench.config.schema import Scalar
from dmlbench.results.formatting import metric_label
from dmlbench.results.row import Row
from dmlbench.tables.confidence import t_quantile
from dmlbench.verification import Tier, Verdict

METRICS = ("map_at_r", "recall_at_1")
_MACHINE = ("hostname", "cpu_model", "device")
_MEASURED = ("finished_at", "train_seconds", "evaluate_seconds")


def retrained(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Compare the rows of one run from several machines.

    Two rows of the same run agree if MAP@R and Recall@1 differ by less than the 95 % interval for the difference of two runs of
    the method, whose standard deviation is that over its seeds. One seed gives no interval, so such rows have to be equal.
    All of this is text that anybody can write, so it is evidence only if the rows come from different people.

    Args:
        verdicts: Verdicts of all rows. Only consistent ones are compared.

    Returns:
        As many verdicts; those of reproduced rows have the tier `retrained`.
    """
    usable = [one for one in verdicts if one.row.ok and one.tier.rank >= Tier.CONSISTENT.rank]
    by_run: dict[object, list[Row]] = {}
    by_method: dict[object, list[Row]] = {}
    for one in usable:
        by_run.setdefault(one.row["run_id"], []).append(one.row)
        by_method.setdefault((one.row["fingerprint"], one.row["method_digest"]), []).append(one.row)
    found = []
    for one in verdicts:
        others = [row for row in by_run.get(one.row["run_id"], ()) if _is_other_training(one.row, row)] if one in usable else []
        if others:
            same_method = by_method[one.row["fingerprint"], one.row["method_digest"]]
            reasons = [_why_different(one.row, other, same_method) for other in others]
            agrees = "" in reasons
            one = replace(one, tier=Tier.RETRAINED if agrees else one.tier, why_not_next="" if agrees else reasons[0])
        found.append(one)
    return found


def _is_other_training(row: Row, other: Row) -> bool:
    """Whether two rows are from different machines, and not copies: they ended at other times and took other times."""
    differs = {name: _is_known_and_other(row.get(name), other.get(name)) for name in (*_MACHINE, *_MEASURED)}
    is_measured_again = differs["train_seconds"] or (not row.number("train_seconds") and differs["evaluate_seconds"])
    return any(differs[name] for name in _MACHINE) and differs["finished_at"] and is_measured_again


def _is_known_and_other(one: Scalar, two: Scalar) -> bool:
    return one is not None and two is not None and one != two


def _why_different(row: Row, other: Row, same_method: Sequence[Row]) -> str:
    """Return in what two rows of one run differ by more than two runs do, a clause; empty if they agree."""
    for metric in METRICS:
        one, two = row.number(metric), other.number(metric)
        if one is None or two is None or one == two:
            continue
        by_seed: dict[int, float] = {}
        for each in same_method:
            if (value := each.number(metric)) is not None:
                by_seed.setdefault(each.seed, value)
        if len(by_seed) < 2:
            return f"{metric_label(metric)} differs from another machine's row, and one seed gives no interval"
        allowed = t_quantile(len(by_seed) - 1) * statistics.stdev(by_seed.values()) * math.sqrt(2)
        if abs(one - two) > allowed:
            return (
                f"{metric_label(metric)} differs from another machine's row by {abs(one - two):.4f}, and the interval of "
                f"{len(by_seed)} seeds allows {allowed:.4f}"
            )
    return ""
