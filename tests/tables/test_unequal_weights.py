"""A few large classes or groups: degrees of freedom, false alarms, and refusals."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from significance_worlds import equal_weights, significant

import dmlbench.tables.unequal_weights
from dmlbench.tables.significance import LEVEL, spread_of_difference
from dmlbench.tables.unequal_weights import _bell_mccaffrey, degrees_of_freedom, effective_number
from dmlbench.tables.variance_components import Study, _larger_variance

TWO_LARGE = np.repeat(np.arange(12), (30, 30, *(4,) * 10))


def test_units_of_equal_weight_have_one_degree_of_freedom_less_than_their_number() -> None:
    assert degrees_of_freedom(equal_weights(7), _larger_variance) == 6


def test_the_degrees_of_freedom_of_the_robust_estimate_are_those_of_its_quadratic_form() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(9))
    centring = np.eye(9) - np.outer(np.ones(9), weights)
    form = centring.T @ np.diag(weights**2) @ centring
    assert _bell_mccaffrey(weights) == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))


def test_large_units_leave_fewer_degrees_of_freedom() -> None:
    equal, two_large = np.full(12, 1 / 12), np.bincount(TWO_LARGE) / 100
    assert degrees_of_freedom(two_large, _larger_variance) < 7 < degrees_of_freedom(equal, _larger_variance) == 11
    assert effective_number(two_large) == pytest.approx(5.1, abs=0.05)


def test_thousands_of_units_of_similar_weight_are_not_simulated() -> None:
    weights = np.random.default_rng(0).uniform(1, 3, 4000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dmlbench.tables.unequal_weights, "_simulated", pytest.fail)
        assert 2500 < degrees_of_freedom(weights / weights.sum(), _larger_variance) < 3999


def studies(groups: np.ndarray, n_methods: int, n: int, alike: float = 0.5) -> np.ndarray:
    """Class means of equal methods with three seeds, whose classes are alike within a group."""
    normal = np.random.default_rng([n_methods, len(groups)]).standard_normal
    of_group = normal((n, n_methods, 1, groups.max() + 1))[..., groups]
    classes = alike**0.5 * of_group + (1 - alike) ** 0.5 * normal((n, n_methods, 1, len(groups)))
    seeds = 0.005 * normal((n, n_methods, 3, 1))
    found: np.ndarray = seeds + 0.05 * classes + 0.05 * normal((n, n_methods, 3, len(groups)))
    return found


def test_two_groups_with_most_of_the_classes_do_not_raise_the_rate_of_false_alarms() -> None:
    means = studies(TWO_LARGE, 2, 6000)
    assert significant(means, equal_weights(100), TWO_LARGE).mean() < 0.06  # 7.2 % with 11 degrees of freedom


def test_five_groups_find_a_difference_of_any_of_seven_equal_methods_as_rarely_as_the_level_says() -> None:
    groups = np.repeat(np.arange(5), 20)
    found = []
    for means in studies(groups, 7, 300, 0.3):
        study = Study(means, equal_weights(100), groups)
        averages = study.method_means()
        best = int(averages.argmax())
        spreads = {j: spread_of_difference(study, best, j) for j in range(7) if j != best}
        gains = {j: float(averages[best] - averages[j]) for j in spreads}
        # Below 2.9 standard errors no difference of seven methods is significant; the studentised range takes milliseconds.
        large = [j for j in spreads if gains[j] > 2.9 * spreads[j].variance ** 0.5]
        found.append(any(spreads[j].p_value(gains[j]) <= LEVEL for j in large))
    assert np.mean(found) < 0.06  # 7.8 % if the variance of each pair is estimated alone


def test_the_examples_in_the_docstrings_are_correct() -> None:
    assert doctest.testmod(dmlbench.tables.unequal_weights, extraglobs={"np": np}).failed == 0
