"""Draw class means of simulated studies, many at once, for tests of the significance test."""

from __future__ import annotations

import numpy as np

from dmlbench.tables.significance import LEVEL, Spread
from dmlbench.tables.variance_components import Study, difference_variance


def draw(
    rng: np.random.Generator, shape: tuple[int, int, int, int], seed: float, by_class: float, residual: float
) -> np.ndarray:
    """Draw class means of equal methods.

    Args:
        rng: Random generator.
        shape: Numbers of studies, methods, seeds and classes.
        seed: Standard deviation of the effect of a seed on a method.
        by_class: Standard deviation of the effect of a class on a method.
        residual: Standard deviation of the residual.
    """
    n_studies, n_methods, n_seeds, n_classes = shape
    values = 0.5 + 0.15 * rng.standard_normal((n_studies, 1, 1, n_classes))
    values = values + seed * rng.standard_normal((n_studies, n_methods, n_seeds, 1))
    values = values + by_class * rng.standard_normal((n_studies, n_methods, 1, n_classes))
    found: np.ndarray = values + residual * rng.standard_normal(shape)
    return found


def equal_weights(n_classes: int) -> np.ndarray:
    return np.full(n_classes, 1 / n_classes)


def significant(means: np.ndarray, weights: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Return which studies of two methods, `(N, 2, S, C)`, find a significant difference."""
    study = Study(means, weights, groups)
    variance, degrees_of_freedom = difference_variance(study, 0, 1)
    differences = np.diff(study.method_means()).ravel()
    each = zip(variance, degrees_of_freedom, differences, strict=True)
    return np.array([Spread(float(v), float(df)).p_value(float(difference)) <= LEVEL for v, df, difference in each])
