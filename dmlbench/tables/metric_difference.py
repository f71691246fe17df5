"""The difference of two methods in one metric, with the best possible significance test.

The test is the one of the tables (`significance`). For two methods it is a t test that accounts for seed and class variance.
With too few seeds, only class variance can be tested, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dmlbench.results.row import Row
from dmlbench.tables.class_scores import ClassScores, class_scores, class_scores_per_method
from dmlbench.tables.significance import LEVEL, spread_of_difference, spread_over_classes

Basis = Literal["seeds and classes", "classes only", "none"]


@dataclass(frozen=True)
class Difference:
    """Difference of two methods in one metric; all numbers are fractions.

    Args:
        metric: Name of the column.
        a: Mean of A over seeds.
        b: Mean of B over seeds.
        half_width: Half width of the 95 % interval of `a - b`; None if nothing was tested.
        p: p-value of the null hypothesis of no difference; None if nothing was tested.
        basis: Sources of variance that the test accounts for.
        untested: Why the test does not account for both, a clause; None if it does.
    """

    metric: str
    a: float
    b: float
    half_width: float | None
    p: float | None
    basis: Basis
    untested: str | None = None

    @property
    def value(self) -> float:
        """A - B."""
        return self.a - self.b

    @property
    def better(self) -> Literal["a", "b", None]:
        """The significantly better method; None if there is none. Higher is better in every compared metric."""
        if self.p is None or self.p > LEVEL or not self.value:
            return None
        return "a" if self.value > 0 else "b"


def metric_difference(
    a: Sequence[Row], b: Sequence[Row], metric: str, few: str | None, other_data: str | None
) -> tuple[Difference, ClassScores | None]:
    """Compute the difference of two methods in a metric and test it.

    Args:
        a: Rows of A that have the metric, one per seed.
        b: Rows of B.
        metric: Name of the metric.
        few: Why there are too few seeds for a test of seed variance; None if there are enough.
        other_data: Why they were perhaps not evaluated on the same images; None if they were.

    Returns:
        The difference, and the class means that the test is based on; None if nothing was tested.
    """
    mean_a, mean_b = mean_over_seeds(a, metric), mean_over_seeds(b, metric)
    assert mean_a is not None  # `compare_pair` refuses rows without the metric
    assert mean_b is not None
    scores, reason = None, other_data
    if other_data is None:
        scores, reason = _class_scores(a, b, metric, all_seeds=few is None)
    if scores is None:
        return Difference(metric, mean_a, mean_b, half_width=None, p=None, basis="none", untested=reason), None
    spread = spread_of_difference(scores.study, 0, 1) if few is None else spread_over_classes(scores.study)
    basis: Basis = "seeds and classes" if few is None else "classes only"
    p = spread.p_value(mean_a - mean_b)
    return Difference(metric, mean_a, mean_b, spread.half_width(), p, basis, few), scores


def _class_scores(a: Sequence[Row], b: Sequence[Row], metric: str, all_seeds: bool) -> tuple[ClassScores | None, str]:
    """Return the class means of both methods, per seed or averaged over the seeds of each; or None and a reason."""
    if all_seeds:
        scores, reason = class_scores([a, b], metric)
        return scores, reason or ""
    each, reason = class_scores_per_method([a, b], metric)
    if each is None:
        return None, reason or ""
    return replace(each[0], means=np.stack([scores.means.mean(1) for scores in each])), ""


def mean_over_seeds(rows: Sequence[Row], name: str) -> float | None:
    """Return the mean of a column over rows; None if a row does not have it as a number.

    Args:
        rows: Rows of one method.
        name: Name of the column.
    """
    values = [row.number(name) for row in rows]
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if len(numbers) == len(values) else None
