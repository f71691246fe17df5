"""What unequal weights of classes or groups do to a significance test.

If a few classes have most of the queries, or a few groups most of the classes, the mean depends on these few. The variance
between them is then hardly known, however many small ones there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

MIN_EFFECTIVE = 4.0  # with fewer, false alarms exceed the level of the test: docs/significance.md
_NEARLY_EQUAL = 100.0  # degrees of freedom above which simulated ones change no decision
_DRAWS = 4000
_BLOCK = 2**22  # random numbers at a time

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]  # units (..., U) and weights (U,) to variances (...)


def effective_number(weights: np.ndarray) -> float:
    """Return how many units of equal weight a weighted mean is worth, if units have equal variances.

    Args:
        weights: Weights with sum 1, `(U,)`.

    Source:
        Kish, Survey sampling, 1965.

    >>> round(effective_number(np.array([0.5, 0.5]))), round(effective_number(np.array([0.8, 0.1, 0.1])), 2)
    (2, 1.52)
    """
    return float(1 / np.square(weights).sum())


def degrees_of_freedom(weights: np.ndarray, estimate: Estimator) -> float:
    """Return the degrees of freedom of an estimate of the variance of a weighted mean.

    Units of equal weight have one less than their number. Otherwise, it is found by simulation for units that differ only
    because the mean of a unit is over its queries, so that their variance is inversely proportional to their weight.

    Args:
        weights: Weights with sum 1, `(U,)`.
        estimate: Estimates the variance.

    Source:
        Satterthwaite, An approximate distribution of estimates of variance components, Biometrics 1946: twice the squared mean
        of an estimate, divided by its variance.
    """
    if np.ptp(weights) < 1e-12:
        return len(weights) - 1.0
    if (robust := _bell_mccaffrey(weights)) >= _NEARLY_EQUAL:
        return robust
    return min(_simulated(tuple(weights.tolist()), estimate), len(weights) - 1.0)


def _bell_mccaffrey(weights: np.ndarray) -> float:
    """Degrees of freedom of the robust estimate for units of equal variance: tr(Q)^2 / tr(Q^2) of its quadratic form Q."""
    second, third, fourth, fifth = (float((weights**power).sum()) for power in (2, 3, 4, 5))
    trace = second - 2 * third + second**2
    square = fourth - 4 * fifth + 4 * second * fourth + 2 * third**2 - 4 * second**2 * third + second**4
    return trace**2 / square


@lru_cache(maxsize=64)
def _simulated(weights: tuple[float, ...], estimate: Estimator) -> float:
    of_units, generator = np.array(weights), np.random.default_rng(0)
    size = max(_BLOCK // len(weights), 1)
    found = [
        estimate(generator.standard_normal((min(size, _DRAWS - start), len(weights))) / of_units**0.5, of_units)
        for start in range(0, _DRAWS, size)
    ]
    estimates = np.concatenate(found)
    return float(2 * estimates.mean() ** 2 / estimates.var())
