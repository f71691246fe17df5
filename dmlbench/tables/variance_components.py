"""Estimate how uncertain the difference of two methods is, from their class means.

    class means (M, S, C), weights of the classes, groups of the classes --> Spread of each difference

The difference of methods i and j with seed s in class c is described by a model of random effects,

    d[s, c] = difference + seed[s] + class[c] + residual[s, c],

where classes of one group may be alike. All methods are evaluated on the same classes and use the same seeds, so effects that
they share cancel in the difference: easy classes, and seeds that are good for all methods. Each method may have variances of
its own.

- **Classes** (or groups): the variance is estimated from the differences of these two methods alone if there are at least
  `MANY_UNITS`. Classes may have different weights, because a class with many queries counts more in a mean over queries, and
  is measured better. If a few have most of the weight, there are fewer degrees of freedom (`unequal_weights`).
- **Few classes or groups, and seeds**: the variance of one pair alone is hardly known. With three methods or more, it is
  pooled over all methods, in units of the residual standard deviation of each method, which all classes determine well. If
  one of two methods varies significantly more than the others, their difference has its own variance, unless the pooled one is
  larger. The pool contains this method too, so that it widens the intervals of all other pairs. With two methods, seeds are
  paired if there are at least `MIN_PAIRED_SEEDS`; below that, the variances of the two methods are added.

The components are added with Satterthwaite's degrees of freedom. `scripts/simulate_significance.py` measures error rates.

Source: Montgomery, Design and analysis of experiments, 2017, chapter 13; Satterthwaite, An approximate distribution of
estimates of variance components, Biometrics 1946; Welch, The generalization of Student's problem, Biometrika 1947;
Henderson, Estimation of variance and covariance components, Biometrics 1953; Bell and McCaffrey, Bias reduction in standard
errors for linear regression with multi-stage samples, Survey Methodology 2002.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dmlbench.tables.unequal_weights import degrees_of_freedom

MIN_PAIRED_SEEDS = 4
MANY_UNITS = 20  # classes or groups from which on the variance of a pair of methods is known well enough without the others
VarianceOfMean = Callable[[np.ndarray], np.ndarray]
OUTLIER_LEVEL = 0.2  # of the F test that finds methods with a larger seed variance; a lower level misses more of them


class Component(NamedTuple):
    """Estimated contribution to the variance of a difference, and its degrees of freedom; arrays over studies."""

    variance: np.ndarray
    degrees_of_freedom: np.ndarray


@dataclass(frozen=True, eq=False)
class Study:
    """Class means of all methods that are tested together, with the weights and the groups of the classes.

    Args:
        means: Class means, float64 `(..., M, S, C)`: at least 2 methods, seeds and classes. Leading dimensions are studies.
        weights: Weight of each class, positive, with sum 1: `(C,)`.
        groups: Index of the group of each class, int64 `(C,)` without gaps from 0; None if classes are independent.
    """

    means: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None

    def method_means(self) -> np.ndarray:
        """Return the mean of each method over seeds and classes, `(..., M)`."""
        return (self.means @ self.weights).mean(-1)

    @property
    def unit_weights(self) -> np.ndarray:
        """Weight of each independent unit, which is a class or a group: `(U,)`, with sum 1."""
        return self.weights if self.groups is None else np.bincount(self.groups, self.weights)


def difference_variance(study: Study, i: int, j: int) -> Component:
    """Estimate the variance of the difference of two methods.

    Args:
        study: Class means of all methods.
        i: Index of a method.
        j: Index of another method.

    Returns:
        Variance of the difference of their means, and Satterthwaite's degrees of freedom; each `(...)`.
    """
    gains = study.means[..., i, :, :] - study.means[..., j, :, :]
    units, weights = _units(gains, study.weights, study.groups)
    by_class, residual = _class_components(units, weights)
    if len(weights) < MANY_UNITS and study.means.shape[-3] > 2:
        by_class = _few_units_component(study, i, j)
    return _total(_seed_component(study, i, j), by_class, residual)


def class_variance(gains: np.ndarray, weights: np.ndarray, groups: np.ndarray | None) -> Component:
    """Estimate the variance of a mean over classes, if nothing is known about seeds.

    Args:
        gains: Difference of two methods in each class, `(..., C)`.
        weights: Weight of each class, `(C,)`.
        groups: Index of the group of each class, `(C,)`; None if classes are independent.
    """
    units, own = _units(gains[..., None, :], weights, groups)
    return _class_components(units, own)[0]


def _units(gains: np.ndarray, weights: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of independent units, which are classes or groups, and their weights."""
    if groups is None:
        return gains, weights
    member = np.eye(groups.max() + 1)[groups] * weights[:, None]  # (C, G)
    of_group = member.sum(0)
    return gains @ (member / of_group), of_group


def _class_components(gains: np.ndarray, weights: np.ndarray) -> tuple[Component, Component]:
    """Return the contributions of classes and of residuals to the variance of a mean."""
    n_seeds = gains.shape[-2]
    class_means, seed_means = gains.mean(-2), gains @ weights
    overall = seed_means.mean(-1)[..., None]
    by_class = _larger_variance(class_means, weights)
    full = np.full(by_class.shape, degrees_of_freedom(weights, _larger_variance))
    if n_seeds == 1:
        return Component(by_class, full), Component(np.zeros_like(by_class), full)
    residuals = gains - seed_means[..., None] - class_means[..., None, :] + overall[..., None]
    residual = _variance_of_mean(residuals, weights).sum(-1) / ((n_seeds - 1) * n_seeds)
    return Component(by_class, full), Component(residual, full * (n_seeds - 1))


def _larger_variance(units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the larger one of two estimates of the variance of a weighted mean of units `(..., U)`."""
    deviations = units - (units @ weights)[..., None]
    return np.maximum(_variance_of_mean(units, weights), _robust_variance(deviations, weights))


def _variance_of_mean(units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Estimate the variance of a weighted mean of independent units.

    The variance of a unit is a constant, because units differ, plus a part that is inversely proportional to its weight,
    because the mean of a unit is over its queries. Both follow from the expectations of two sums of squares (Henderson).

    Args:
        units: Values `(..., U)`.
        weights: Weights with sum 1, `(U,)`.
    """
    n_units, square = len(weights), float(np.square(weights).sum())
    plain = np.square(units - units.mean(-1, keepdims=True)).sum(-1) / (n_units - 1)
    inverse = float((1 / weights).mean())
    determinant = (n_units - 1) - inverse * (1 - square)
    if abs(determinant) < 1e-9 * n_units:  # equal weights
        return plain * square
    by_weight = np.square(units - (units @ weights)[..., None]) @ weights
    constant = ((n_units - 1) * plain - inverse * by_weight) / determinant
    falling = (by_weight - (1 - square) * plain) / determinant
    falling = np.where(constant < 0, by_weight / (n_units - 1), falling)
    constant = np.where(falling < 0, plain, constant)
    return np.maximum(constant, 0) * square + np.maximum(falling, 0)


def _robust_variance(deviations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Estimate the same variance without a model of it; unbiased if units have equal variances (Bell and McCaffrey)."""
    square = float(np.square(weights).sum())
    expected = float((weights**2 * (1 - 2 * weights + square)).sum())
    found: np.ndarray = np.square(weights * deviations).sum(-1) * (square / expected)
    return found


def _seed_component(study: Study, i: int, j: int) -> Component:
    """Return the contribution of seeds, including residuals, to the variance of the difference of two methods."""
    scores = study.means @ study.weights  # (..., M, S)
    n_methods, n_seeds = scores.shape[-2:]

    def variance_of_mean(values: np.ndarray) -> np.ndarray:
        return values.var(-1, ddof=1) / n_seeds

    if n_methods > 2:
        return _pooled(scores, _residual_variance(study), i, j, variance_of_mean, n_seeds - 1.0)
    if n_seeds < MIN_PAIRED_SEEDS:
        return _added(scores, i, j)
    paired = variance_of_mean(scores[..., i, :] - scores[..., j, :])
    return Component(paired, np.full(paired.shape, n_seeds - 1.0))


def _few_units_component(study: Study, i: int, j: int) -> Component:
    """Return the contribution of a few classes or groups, including residuals, to the variance of the difference of methods."""
    effects, weights = _units(study.means.mean(-2), study.weights, study.groups)  # (..., M, U)
    free = degrees_of_freedom(weights, _larger_variance)
    return _pooled(effects, _residual_variance(study), i, j, lambda values: _larger_variance(values, weights), free)


def _pooled(effects: np.ndarray, noise: np.ndarray, i: int, j: int, variance_of_mean: VarianceOfMean, free: float) -> Component:
    """Pool the variance of effects over methods, unless one of two methods varies significantly more than the others.

    Args:
        effects: Mean score of each method for each seed, class or group, `(..., M, R)`.
        noise: Residual variance of each method, `(..., M)`.
        i: Index of a method.
        j: Index of another method.
        variance_of_mean: Estimates the variance of the mean over the last dimension.
        free: Degrees of freedom of this estimate.

    Returns:
        The variance of the mean difference of methods i and j.
    """
    n_methods = effects.shape[-2]
    paired = variance_of_mean(effects[..., i, :] - effects[..., j, :])
    pooled = _pooled_ratio(effects, noise, variance_of_mean) * (noise[..., i] + noise[..., j])
    outlier = [_is_outlier(effects, noise, method, variance_of_mean, free) for method in (i, j)]
    apart = (outlier[0] | outlier[1]) & (paired > pooled)
    return Component(np.where(apart, paired, pooled), np.where(apart, free, (n_methods - 1) * free))


def _added(scores: np.ndarray, i: int, j: int) -> Component:
    """Return the sum of the variances of two methods over seeds, with Welch's degrees of freedom."""
    n_seeds = scores.shape[-1]
    first, second = (scores[..., method, :].var(-1, ddof=1) / n_seeds for method in (i, j))
    with np.errstate(invalid="ignore"):
        welch = (n_seeds - 1) * (first + second) ** 2 / (first**2 + second**2)
    return Component(first + second, np.where(np.isfinite(welch), welch, n_seeds - 1))


def _residual_variance(study: Study) -> np.ndarray:
    """Return the mean square of the residuals of each method, `(..., M)`; ones if a method has none."""
    means = study.means
    seeds, classes = (means @ study.weights)[..., None], means.mean(-2, keepdims=True)
    found = np.square(means - seeds - classes + seeds.mean(-2, keepdims=True)).mean((-2, -1))
    return np.where((found > 0).all(-1, keepdims=True), found, 1.0)


def _pooled_ratio(effects: np.ndarray, noise: np.ndarray, variance_of_mean: VarianceOfMean) -> np.ndarray:
    """Return the variance of the mean effect of all methods, in units of their noise, without what methods share, `(...)`."""
    own = effects - effects.mean(-1, keepdims=True)  # first, so that equal effects leave exactly zero
    deviations = own - _weighted_mean(own, noise)[..., None, :]
    found: np.ndarray = (variance_of_mean(deviations) / noise).sum(-1) / (effects.shape[-2] - 1)
    return found


def _weighted_mean(scores: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return the mean over methods, weighted by their precision: `(..., M, S)` to `(..., S)`."""
    found: np.ndarray = (scores / noise[..., None]).sum(-2) / (1 / noise).sum(-1)[..., None]
    return found


def _is_outlier(
    effects: np.ndarray, noise: np.ndarray, method: int, variance_of_mean: VarianceOfMean, free: float
) -> np.ndarray:
    """Return whether a method varies significantly more than the others do among themselves, `(...)`."""
    from scipy.special import fdtrc

    n_methods = effects.shape[-2]
    others, their_noise = np.delete(effects, method, axis=-2), np.delete(noise, method, axis=-1)
    own = variance_of_mean(effects[..., method, :] - _weighted_mean(others, their_noise))
    own = own / (noise[..., method] + 1 / (1 / their_noise).sum(-1))
    rest = _pooled_ratio(others, their_noise, variance_of_mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(rest > 0, own / rest, np.inf)
    found: np.ndarray = fdtrc(free, (n_methods - 2) * free, ratio) <= OUTLIER_LEVEL
    return found & (own > 0)


def _total(seed: Component, by_class: Component, residual: Component) -> Component:
    """Add the components of seeds and of classes, which both contain the residual."""
    total = seed.variance + by_class.variance - residual.variance
    squares = sum(np.square(one.variance) / one.degrees_of_freedom for one in (seed, by_class, residual))
    largest = np.maximum(seed.variance, by_class.variance)
    truncated = total <= largest  # a variance component that is estimated below zero counts as zero
    from_seeds = seed.variance >= by_class.variance
    with np.errstate(divide="ignore", invalid="ignore"):
        satterthwaite = np.where(squares > 0, np.square(total) / squares, 1.0)
    alone = np.where(from_seeds, seed.degrees_of_freedom, by_class.degrees_of_freedom)
    return Component(np.where(truncated, largest, total), np.where(truncated, alone, satterthwaite))
