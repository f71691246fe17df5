"""The script behind docs/significance.md: its shortcuts give the results of the test itself."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dmlbench.tables.significance import LEVEL, Spread
from dmlbench.tables.variance_components import Study

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "simulate_significance.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("n_methods", [2, 7])
def test_the_interpolated_critical_value_has_the_p_value_of_the_level(script: dict[str, Any], n_methods: int) -> None:
    for degrees_of_freedom in (1.0, 2.37, 5.81, 23.3, 321.0):
        critical = float(script["critical_value"](n_methods, np.array([degrees_of_freedom]))[0])
        spread = Spread(variance=4.0, degrees_of_freedom=degrees_of_freedom, n_methods=n_methods)
        assert spread.p_value(2 * critical) == pytest.approx(LEVEL, abs=2e-4)


def test_the_true_error_is_that_of_simulated_differences(script: dict[str, Any]) -> None:
    for scenario in script["OTHERS"]:
        means = scenario.draw(np.random.default_rng(0), 2000, 3, 3)
        differences = Study(means, scenario.weights).method_means()[:, 1:] @ [1, -1]
        assert differences.std() == pytest.approx(scenario.true_error(3), rel=0.06), scenario.name
