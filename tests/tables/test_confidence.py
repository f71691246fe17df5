import doctest
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

import dmlbench.tables.confidence
from dmlbench.tables.confidence import t_interval, t_quantile


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_interval_is_that_of_scipys_student_t(n):
    values = np.random.default_rng(n).normal(0.5, 0.02, n)
    low, high = scipy_stats.t.interval(0.95, n - 1, loc=values.mean(), scale=scipy_stats.sem(values, ddof=1))
    mean, half_width = t_interval(values.tolist())
    assert mean == pytest.approx((low + high) / 2, abs=1e-12)
    assert half_width == pytest.approx((high - low) / 2, abs=1e-12)


def test_three_seeds_by_hand():
    # Tables of Student's t give 4.3027 for 2 degrees of freedom; the deviation of 1, 2, 3 with ddof 1 is 1.
    mean, half_width = t_interval([1.0, 2.0, 3.0])
    assert (mean, half_width) == (2.0, pytest.approx(4.3027 / math.sqrt(3), abs=1e-4))


def test_the_quantile_is_scipys_for_any_degrees_of_freedom():
    for freedom in [*range(1, 60), 99, 100, 500, 1001]:
        assert t_quantile(freedom) == pytest.approx(scipy_stats.t.ppf(0.975, freedom), rel=1e-12)


def test_one_value_has_a_mean_and_no_interval():
    assert t_interval([0.3]) == (0.3, None)


def test_equal_values_have_a_half_width_of_exactly_zero():
    assert t_interval([0.05, 0.05, 0.05]) == (0.05, 0.0)


def test_equal_values_have_it_however_many_they_are():
    values = np.random.default_rng(0).random(50).tolist()
    assert all(t_interval([value] * n) == (value, 0.0) for value in values for n in range(2, 60))


def test_the_order_of_the_values_changes_no_bit():
    values = np.random.default_rng(0).random(25).tolist()
    assert t_interval(values) == t_interval(sorted(values))


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="at least one value"):
        t_interval([])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_covers_the_truth_in_95_percent_of_simulated_studies(n):
    studies = np.random.default_rng(7).normal(0.4, 0.05, (2000, n)).tolist()
    covered = 0
    for values in studies:
        mean, half_width = t_interval(values)
        covered += abs(mean - 0.4) <= half_width
    # Four standard errors of a share; with ddof 0 or a normal quantile it falls far outside.
    assert abs(covered / len(studies) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(studies))


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(dmlbench.tables.confidence).failed == 0
