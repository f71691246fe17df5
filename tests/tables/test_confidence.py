"""The confidence interval of a mean over seeds, compared with scipy and with simulated samples."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from scipy import stats

import dmlbench.tables.confidence
from dmlbench.tables.confidence import t_interval, t_quantile


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_equals_that_of_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, 0.02, n)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values, ddof=1))
    mean, half_width = t_interval(values.tolist())
    assert mean == pytest.approx((low + high) / 2, abs=1e-12)
    assert half_width == pytest.approx((high - low) / 2, abs=1e-12)


def test_the_interval_of_three_seeds_equals_one_computed_by_hand() -> None:
    # Tables of Student's t give 4.3027 for 2 degrees of freedom; the standard deviation of 1, 2, 3 with ddof 1 is 1.
    mean, half_width = t_interval([1.0, 2.0, 3.0])
    assert (mean, half_width) == (2.0, pytest.approx(4.3027 / math.sqrt(3), abs=1e-4))


def test_the_quantile_equals_that_of_scipy_for_all_degrees_of_freedom() -> None:
    for degrees_of_freedom in [*range(1, 60), 99, 100, 500, 1001]:
        expected = stats.t.ppf(0.975, degrees_of_freedom)
        assert t_quantile(degrees_of_freedom) == pytest.approx(expected, rel=1e-12)


def test_one_value_has_a_mean_and_no_interval() -> None:
    assert t_interval([0.3]) == (0.3, None)


def test_equal_values_have_a_half_width_of_exactly_zero() -> None:
    assert t_interval([0.05, 0.05, 0.05]) == (0.05, 0.0)
    values = np.random.default_rng(0).random(50).tolist()
    assert all(t_interval([value] * n) == (value, 0.0) for value in values for n in range(2, 60))


def test_the_interval_does_not_depend_on_the_order_of_the_values() -> None:
    values = np.random.default_rng(0).random(25).tolist()
    assert t_interval(values) == t_interval(sorted(values))


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_contains_the_true_mean_in_95_percent_of_simulated_samples(n: int) -> None:
    samples = np.random.default_rng(7).normal(0.4, 0.05, (2000, n)).tolist()
    covered = 0
    for values in samples:
        mean, half_width = t_interval(values)
        covered += abs(mean - 0.4) <= half_width
    # Four standard errors of a proportion; with ddof 0 or a normal quantile, the coverage is far outside.
    assert abs(covered / len(samples) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(samples))


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(dmlbench.tables.confidence).failed == 0
