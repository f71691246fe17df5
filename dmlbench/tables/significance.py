"""Test which methods are significantly worse than the best one.

Two sources of variance affect a result: the seed, and the choice of test classes (queries of one class are not independent).
A test that accounts for only one of them rejects the null hypothesis too often. The class means of each method and seed are
therefore described by a mixed model:

    y[m, s, c] = method[m] + seed[m, s] + class[c] + method x class[m, c] + residual[m, s, c]

Methods are fixed, all other effects are random. Seeds are nested within methods: the same seed number in two methods is not
a common effect. Methods are crossed with classes, because all methods are evaluated on the same classes; the effect of a
class therefore cancels in the difference of two methods. The other variance components are estimated from mean squares, with
Satterthwaite's degrees of freedom. Each method is compared with the best one. Because the best one is chosen from the same
data, p-values come from Tukey's studentised range over all methods. `scripts/simulate_significance.py` measures the type I
error rate, the power, and the coverage of the intervals; its results are in docs/significance.md.

Source: Montgomery, Design and analysis of experiments, 2017, chapter 13; Satterthwaite, An approximate distribution of
estimates of variance components, Biometrics 1946; Tukey, The problem of multiple comparisons, 1953.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dmlbench.results.row import Row
from dmlbench.tables.class_scores import class_scores

LEVEL = 0.05


@dataclass(frozen=True)
class Spread:
    """Uncertainty of the means of methods, without the class effect that all methods share.

    Args:
        variance: Variance of the mean of one method; the variance of a difference of two methods is twice as large.
        degrees_of_freedom: Satterthwaite's degrees of freedom of `variance`.
        n_methods: Number of methods M.
    """

    variance: float
    degrees_of_freedom: float
    n_methods: int

    def p_value(self, difference: float) -> float:
        """Return the probability that the largest difference among M equal methods is at least as large.

        Args:
            difference: Difference of two means.
        """
        if difference == 0 or self.variance == 0:
            return float(difference == 0)
        if self.n_methods == 2:  # equal to the studentised range of two, and more accurate for small p
            from scipy.special import stdtr

            return float(2 * stdtr(self.degrees_of_freedom, -abs(difference) / (2 * self.variance) ** 0.5))
        from scipy.stats import studentized_range  # takes half a second to import

        return float(studentized_range.sf(abs(difference) / self.variance**0.5, self.n_methods, self.degrees_of_freedom))

    def half_width(self) -> float:
        """Return the half width of the 95 % interval of the difference of two methods that were chosen beforehand."""
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees_of_freedom, 1 - LEVEL / 2)) * (2 * self.variance) ** 0.5


def estimate_spread(values: np.ndarray) -> Spread:
    """Estimate the uncertainty of the means of methods from their class means.

    Args:
        values: Class means of equal weight, `(M, S, C)`: at least 2 methods, seeds and classes; see `class_scores.weighted`.

    >>> values = np.random.default_rng(0).standard_normal((2, 4, 30))
    >>> spread = estimate_spread(values)
    >>> 0.005 < spread.variance < 0.02
    True
    """
    n_methods, n_seeds, n_classes = values.shape
    method_means = values.mean((1, 2), keepdims=True)
    seed_means, class_means = values.mean(2, keepdims=True), values.mean(1, keepdims=True)
    degrees_of_freedom = {
        "seed": n_methods * (n_seeds - 1),
        "class": (n_methods - 1) * (n_classes - 1),
        "residual": n_methods * (n_seeds - 1) * (n_classes - 1),
    }
    interaction = class_means - method_means - values.mean((0, 1), keepdims=True) + values.mean()
    seed = n_classes * float(np.square(seed_means - method_means).sum()) / degrees_of_freedom["seed"]
    by_class = n_seeds * float(np.square(interaction).sum()) / degrees_of_freedom["class"]
    residual = float(np.square(values - seed_means - class_means + method_means).sum()) / degrees_of_freedom["residual"]
    total = seed + by_class - residual
    # A variance component that is estimated below zero counts as zero.
    if total <= max(seed, by_class):
        largest = "seed" if seed >= by_class else "class"
        return Spread(max(seed, by_class) / (n_seeds * n_classes), degrees_of_freedom[largest], n_methods)
    scale = (
        seed**2 / degrees_of_freedom["seed"]
        + by_class**2 / degrees_of_freedom["class"]
        + residual**2 / degrees_of_freedom["residual"]
    )
    return Spread(total / (n_seeds * n_classes), total**2 / scale, n_methods)


def paired_half_width(differences: np.ndarray) -> tuple[float, float]:
    """Test a mean over classes with a paired t test, which accounts for class variance only.

    Args:
        differences: Difference of two methods in each class, `(C,)` with at least two classes of equal weight.

    Returns:
        Half width of the 95 % interval, and p-value.
    """
    from scipy.special import stdtr, stdtrit

    degrees_of_freedom, mean = len(differences) - 1, float(differences.mean())
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    p = float(2 * stdtr(degrees_of_freedom, -abs(mean) / error)) if error else float(mean == 0)
    return float(stdtrit(degrees_of_freedom, 1 - LEVEL / 2)) * error, p


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
    values = scores.values
    spread, means = estimate_spread(values), values.mean((1, 2))
    best = float(means.max())
    names = (name for name, mean in zip(methods, means, strict=True) if spread.p_value(best - float(mean)) > LEVEL)
    return frozenset(names), None
