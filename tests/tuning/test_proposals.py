"""Proposals of hyper-parameters, and pruning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dmlbench.errors import UserError
from dmlbench.tuning.proposals import Pruner, propose, require_optuna
from dmlbench.tuning.space import parse_space
from dmlbench.tuning.trials import Trial

SPACE = parse_space(
    {"a": {"low": 0.01, "high": 1, "log": True}, "b": {"low": 2, "high": 9, "step": 1}, "c": {"choices": ["x", None, True]}}
)


def complete(number: int, values: Mapping[str, Any], score: float = 0.5) -> Trial:
    return Trial(number, "complete", score, values, intermediate_values=[(1, score), (2, score)])


def test_proposals_are_in_the_space_and_depend_only_on_trials_and_seed() -> None:
    finished: list[Trial] = []
    for number in range(1, 15):
        values = propose(SPACE, finished, [], seed=number)
        assert values == propose(SPACE, finished, [], seed=number)
        assert all(allowed.contains(values[key]) for key, allowed in SPACE.items())
        assert isinstance(values["b"], int)
        finished.append(complete(number, values, float(values["a"])))  # type: ignore[arg-type]
    assert len({trial.values["a"] for trial in finished}) == 14


def test_proposals_learn_from_finished_trials() -> None:
    space = parse_space({"a": {"low": 0, "high": 1}})
    finished: list[Trial] = []
    for number in range(1, 41):
        values = propose(space, finished, [], seed=number)
        finished.append(complete(number, values, 1 - abs(float(values["a"]) - 0.7)))  # type: ignore[arg-type]
    errors = [1 - trial.score for trial in finished]
    assert np.mean(errors[10:]) < 0.2, "uniform proposals have a mean error of (0.7 ** 2 + 0.3 ** 2) / 2 = 0.29"


def test_proposals_depend_on_the_trials_that_other_processes_are_running() -> None:
    space = parse_space({"a": {"low": 0, "high": 1}})
    finished = [complete(number, {"a": 0.05 * number}, 1 - abs(0.05 * number - 0.5)) for number in range(1, 13)]
    running = [{"a": 0.5 + 0.001 * k} for k in range(8)]
    alone = [propose(space, finished, [], seed)["a"] for seed in range(8)]
    beside = [propose(space, finished, running, seed)["a"] for seed in range(8)]
    assert alone != beside


def test_a_trial_is_pruned_below_the_median_of_five_trials_and_not_during_its_warm_up() -> None:
    values = {"a": 0.1, "b": 2, "c": "x"}
    five = [complete(number, values, score) for number, score in enumerate((0.1, 0.2, 0.3, 0.4, 0.5), start=1)]
    assert not Pruner(SPACE, five[1:], warmup=0).should_prune(1, 0.01)
    assert Pruner(SPACE, five, warmup=0).should_prune(1, 0.29)
    assert not Pruner(SPACE, five, warmup=0).should_prune(1, 0.31)
    warm = Pruner(SPACE, five, warmup=2)
    assert not warm.should_prune(1, 0.29)
    assert warm.should_prune(2, 0.29)


@pytest.mark.parametrize("package", ["optuna", "matplotlib"])
def test_a_missing_package_is_reported_with_the_command_that_installs_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"^tuning needs optuna and matplotlib: pip install 'dmlbench\[tune\]'"):
        require_optuna()
