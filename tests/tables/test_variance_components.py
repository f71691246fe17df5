"""Variance components of the difference of two methods: equal to textbook tests in special cases, and unbiased."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from significance_worlds import draw, equal_weights, significant

from dmlbench.tables.variance_components import Component, Study, class_variance, difference_variance


def study(
    seed: float, by_class: float, residual: float, shape: tuple[int, int, int], weights: np.ndarray | None = None
) -> Study:
    """Return one study of random class means `(M, S, C)`."""
    means = draw(np.random.default_rng(7), (1, *shape), seed, by_class, residual)[0]
    return Study(means, equal_weights(shape[2]) if weights is None else weights)


def p_value(one: Study, found: Component) -> float:
    means = one.method_means()
    return float(2 * stats.t.sf(abs(means[0] - means[1]) / found.variance**0.5, found.degrees_of_freedom))


# --- two methods


def test_with_seed_variance_only_and_three_seeds_the_test_is_that_of_welch() -> None:
    one = study(0.02, 0, 0, (2, 3, 30))
    expected = stats.ttest_ind(*one.means.mean(2), equal_var=False).pvalue
    assert p_value(one, difference_variance(one, 0, 1)) == pytest.approx(expected, rel=1e-6)


def test_with_seed_variance_only_and_four_seeds_the_test_is_a_paired_t_test_over_seeds() -> None:
    one = study(0.02, 0, 0, (2, 4, 30))
    expected = stats.ttest_rel(*one.means.mean(2)).pvalue
    assert p_value(one, difference_variance(one, 0, 1)) == pytest.approx(expected, rel=1e-6)


def test_with_class_variance_only_the_test_is_a_paired_t_test_over_classes() -> None:
    one = study(0, 0.05, 0, (2, 4, 30))
    expected = stats.ttest_rel(*one.means.mean(1)).pvalue
    assert p_value(one, difference_variance(one, 0, 1)) == pytest.approx(expected, rel=1e-6)


def test_variance_and_degrees_of_freedom_of_four_seeds_equal_those_of_mean_squares_computed_with_loops() -> None:
    one = study(0.02, 0.05, 0.03, (2, 4, 12))
    gains = one.means[0] - one.means[1]
    n_seeds, n_classes = gains.shape
    seed = by_class = residual = 0.0
    for s in range(n_seeds):
        seed += (gains[s].mean() - gains.mean()) ** 2 / (n_seeds - 1) / n_seeds
        for c in range(n_classes):
            deviation = gains[s, c] - gains[s].mean() - gains[:, c].mean() + gains.mean()
            residual += deviation**2 / ((n_seeds - 1) * (n_classes - 1)) / (n_seeds * n_classes)
    for c in range(n_classes):
        by_class += (gains[:, c].mean() - gains.mean()) ** 2 / (n_classes - 1) / n_classes
    total = seed + by_class - residual
    assert total > max(seed, by_class)  # otherwise, the other branch would be tested
    squares = seed**2 / (n_seeds - 1) + by_class**2 / (n_classes - 1) + residual**2 / ((n_seeds - 1) * (n_classes - 1))
    found = difference_variance(one, 0, 1)
    assert float(found.variance) == pytest.approx(total)
    assert float(found.degrees_of_freedom) == pytest.approx(total**2 / squares)


def test_effects_that_all_methods_share_cancel() -> None:
    one = study(0.02, 0.05, 0.03, (3, 4, 30))
    rng = np.random.default_rng(1)
    shared = one.means + rng.standard_normal((1, 1, 30)) + rng.standard_normal((1, 4, 1))
    for n_methods in (2, 3):
        before = difference_variance(Study(one.means[:n_methods], one.weights), 0, 1)
        after = difference_variance(Study(shared[:n_methods], one.weights), 0, 1)
        assert np.allclose(before, after)


def test_without_any_variance_the_variance_of_a_difference_is_zero() -> None:
    means = np.broadcast_to(np.array([0.2, 0.3, 0.4])[:, None, None], (3, 3, 5))
    for n_methods in (2, 3):
        assert difference_variance(Study(means[:n_methods], equal_weights(5)), 0, 1).variance == 0


# --- several methods


def test_three_methods_or_more_pool_their_seed_variance_in_units_of_their_residuals() -> None:
    one = study(0.02, 0, 0.001, (5, 3, 40))
    scores = one.means.mean(2)
    residuals = one.means - scores[:, :, None] - one.means.mean(1, keepdims=True) + scores.mean(1)[:, None, None]
    noise = (residuals**2).mean((1, 2))
    own = scores - scores.mean(1, keepdims=True)
    deviations = own - np.average(own, axis=0, weights=1 / noise)
    expected = (deviations**2 / noise[:, None]).sum() / (4 * 2) * (noise[0] + noise[1]) / 3
    found = difference_variance(one, 0, 1)
    assert float(found.variance) == pytest.approx(expected, rel=0.01)  # classes contribute the rest
    assert float(found.degrees_of_freedom) == pytest.approx(8, rel=0.02)


def test_a_method_that_varies_more_over_seeds_is_not_pooled_with_the_others() -> None:
    one = study(0.002, 0.001, 0.001, (5, 5, 40))
    one.means[0] += 0.1 * np.array([1, -1, 0.5, -0.5, 0.2])[:, None]
    noisy, quiet = difference_variance(one, 0, 1), difference_variance(one, 2, 3)
    paired = (one.means[0] - one.means[1]).mean(1).var(ddof=1) / 5
    assert float(noisy.variance) == pytest.approx(paired, rel=0.01)
    assert float(noisy.degrees_of_freedom) == pytest.approx(4, rel=0.02)
    assert float(quiet.degrees_of_freedom) > 10


# --- weights and groups


def test_the_variance_of_a_weighted_mean_is_unbiased_whether_or_not_it_falls_with_the_number_of_queries() -> None:
    counts = np.repeat([2, 10, 18, 30], 10)
    weights = counts / counts.sum()
    for constant, falling in ((0.05, 0.0), (0.0, 0.2), (0.04, 0.2)):
        rng = np.random.default_rng(2)
        gains = constant * rng.standard_normal((4000, 40)) + falling * rng.standard_normal((4000, 40)) / counts**0.5
        truth = float((weights**2 * (constant**2 + falling**2 / counts)).sum())
        assert truth < class_variance(gains, weights, None).variance.mean() < 1.15 * truth


def test_with_equal_weights_the_class_variance_is_that_of_a_t_test() -> None:
    gains = np.random.default_rng(3).standard_normal(20)
    found = class_variance(gains, equal_weights(20), None)
    assert float(found.variance) == pytest.approx(gains.var(ddof=1) / 20)
    assert float(found.degrees_of_freedom) == 19


def test_nearly_equal_weights_give_nearly_the_variance_of_equal_weights() -> None:
    gains = np.random.default_rng(3).standard_normal(20)
    weights = equal_weights(20) * (1 + 1e-5 * np.arange(-9.5, 10))
    assert float(class_variance(gains, weights, None).variance) == pytest.approx(gains.var(ddof=1) / 20, rel=1e-3)


def test_groups_of_equal_size_give_the_variance_over_group_means() -> None:
    gains = np.random.default_rng(4).standard_normal(20)
    found = class_variance(gains, equal_weights(20), np.arange(20) % 5)
    assert float(found.variance) == pytest.approx(gains.reshape(4, 5).mean(0).var(ddof=1) / 5)
    assert float(found.degrees_of_freedom) == 4


def test_groups_of_one_class_each_change_nothing() -> None:
    one = study(0.02, 0.05, 0.03, (3, 4, 12))
    alone = Study(one.means, one.weights, np.arange(12))
    assert np.allclose(difference_variance(one, 0, 2), difference_variance(alone, 0, 2))


# --- error rates


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize(("seed", "by_class", "residual"), [(0.01, 0.02, 0.03), (0.001, 0.08, 0.03), (0.005, 0.05, 0.05)])
def test_equal_methods_rarely_differ_significantly(seed: float, by_class: float, residual: float, n_seeds: int) -> None:
    means = draw(np.random.default_rng(5), (2000, 2, n_seeds, 40), seed, by_class, residual)
    assert significant(means, equal_weights(40)).mean() < 0.065


def test_classes_that_are_alike_in_groups_need_the_groups() -> None:
    rng = np.random.default_rng(6)
    groups = np.arange(40) % 10
    means = draw(rng, (2000, 2, 3, 40), 0.002, 0.03, 0.02) + 0.03 * rng.standard_normal((2000, 2, 1, 10))[..., groups]
    assert significant(means, equal_weights(40), groups).mean() < 0.065
    assert significant(means, equal_weights(40)).mean() > 0.12


def test_the_interval_of_a_weighted_difference_has_its_coverage() -> None:
    counts = np.repeat([2, 10, 18, 30], 10)
    means = draw(np.random.default_rng(8), (2000, 2, 3, 40), 0.002, 0.03, 0.02)
    assert 0.03 < significant(means, counts / counts.sum()).mean() < 0.06
