"""Test which methods are significantly worse than the best one.

Two sources of variance affect a result: the seed, and the choice of test classes (queries of one class are not independent,
and classes of one group may be alike). A test that accounts for only one of them rejects the null hypothesis too often.
`variance_components` describes the model of the differences and estimates their variances. Each method is compared with the
best one. Because the best one is chosen from the same data, p-values come from Tukey's studentised range over all methods,
with the variance and the degrees of freedom of each pair, as in the test of Games and Howell. docs/significance.md has the
type I error rates, the power, and the coverage of the intervals that `scripts/simulate_significance.py` measures.

Source: Tukey, The problem of multiple comparisons, 1953; Games and Howell, Pairwise multiple comparison procedures with
unequal n's and/or variances, Journal of Educational Statistics 1976.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import comb

from dmlbench.results.row import Row
from dmlbench.tables.class_scores import class_scores
from dmlbench.tables.variance_components import Study, class_variance, difference_variance

LEVEL = 0.05


@dataclass(frozen=True)
class Spread:
    """Uncertainty of the difference of two methods.

    Args:
        variance: Variance of the difference of their means.
        degrees_of_freedom: Degrees of freedom of `variance`.
        n_methods: Number of methods of which the two are the best and another one; 2 if they were chosen beforehand.
    """

    variance: float
    degrees_of_freedom: float
    n_methods: int = 2

    def p_value(self, difference: float) -> float:
        """Return the probability that the largest difference among so many equal methods is at least as large.

        Args:
            difference: Difference of two means.
        """
        if difference == 0 or self.variance == 0:
            return float(difference == 0)
        ratio = abs(difference) / self.variance**0.5
        if self.n_methods == 2:  # equal to the studentised range of two, and more accurate for small p
            from scipy.special import stdtr

            return float(2 * stdtr(self.degrees_of_freedom, -ratio))
        from scipy.stats import studentized_range  # takes half a second to import

        return float(studentized_range.sf(ratio * 2**0.5, self.n_methods, self.degrees_of_freedom))

    def is_significant(self, difference: float) -> bool:
        """Return whether the p-value of a difference is at most `LEVEL`.

        The p-value of the studentised range takes milliseconds. It lies between that of the pair alone and its product with
        the number of pairs (Bonferroni), which decide most cases; earlier decisions imply most others.

        Args:
            difference: Difference of two means.
        """
        of_pair = replace(self, n_methods=2).p_value(difference)
        if of_pair > LEVEL or of_pair * comb(self.n_methods, 2) <= LEVEL:
            return of_pair <= LEVEL
        point = (abs(difference) / self.variance**0.5, self.degrees_of_freedom)
        return _decisions(self.n_methods).decide(point, lambda: self.p_value(difference) <= LEVEL)

    def half_width(self) -> float:
        """Return the half width of the 95 % interval of the difference of two methods that were chosen beforehand."""
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees_of_freedom, 1 - LEVEL / 2)) * self.variance**0.5


class _Decisions:
    """Decisions about ratios and degrees of freedom; larger ones keep a difference significant."""

    def __init__(self) -> None:
        self._significant: list[tuple[float, float]] = []
        self._not_significant: list[tuple[float, float]] = []

    def decide(self, point: tuple[float, float], decision: Callable[[], bool]) -> bool:
        """Return a decision that follows from earlier ones, or else make it."""
        if any(point[0] >= ratio and point[1] >= degrees for ratio, degrees in self._significant):
            return True
        if any(point[0] <= ratio and point[1] <= degrees for ratio, degrees in self._not_significant):
            return False
        found = decision()
        (self._significant if found else self._not_significant).append(point)
        return found


@lru_cache(256)
def _decisions(n_methods: int) -> _Decisions:
    """Return the decisions about the studentised range of so many methods."""
    return _Decisions()


def spread_of_difference(study: Study, i: int, j: int) -> Spread:
    """Estimate the uncertainty of the difference of two methods, over seeds and classes.

    Args:
        study: Class means of all methods that are tested together, `(M, S, C)`: at least 2 methods, seeds and classes.
        i: Index of a method.
        j: Index of another method.

    >>> import numpy as np
    >>> means = np.random.default_rng(0).standard_normal((2, 4, 30))
    >>> spread = spread_of_difference(Study(means, np.full(30, 1 / 30)), 0, 1)
    >>> 0.01 < spread.variance < 0.04
    True
    """
    found = difference_variance(study, i, j)
    return Spread(float(found.variance), float(found.degrees_of_freedom), study.means.shape[0])


def spread_over_classes(study: Study) -> Spread:
    """Estimate the uncertainty of the difference of two methods over classes only, because seeds are too few.

    Args:
        study: Class means of two methods with one seed each, or averaged over seeds, `(2, 1, C)`: at least 2 classes.
    """
    found = class_variance(study.means[0, 0] - study.means[1, 0], study.weights, study.groups)
    return Spread(float(found.variance), float(found.degrees_of_freedom))


def not_significantly_worse(methods: Mapping[str, Sequence[Row]], metric: str) -> tuple[frozenset[str], str | None]:
    """Find the methods that are not significantly worse than the best one in a metric, including the best one.

    Args:
        methods: Name to rows, one per seed.
        metric: Name of the metric; higher is better.

    Returns:
        Their names, and None; or no names, and a clause that says why nothing was tested.
    """
    if len(methods) < 2:
        return frozenset(), "there is only one method"
    if min(map(len, methods.values())) < 2:
        return frozenset(), "a method has only one seed"
    scores, reason = class_scores(list(methods.values()), metric)
    if scores is None:
        return frozenset(), reason
    study = scores.study
    means = study.method_means()
    best = int(means.argmax())
    found = {list(methods)[best]}
    for index, name in enumerate(methods):
        if index != best and not spread_of_difference(study, best, index).is_significant(float(means[best] - means[index])):
            found.add(name)
    return frozenset(found), None
