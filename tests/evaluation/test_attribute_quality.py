"""The quality of predicted attributes equals its formula, whatever is missing."""

from __future__ import annotations

import numpy as np
import pytest

from dmlbench.evaluation.attribute_quality import attribute_quality

NAN = float("nan")


def average_precision(scores: np.ndarray, has: np.ndarray) -> float:
    """The mean over positives of the precision among all items whose score is at least that of the positive."""
    precisions = [has[scores >= score].mean() for score in scores[has]]
    return float(np.mean(precisions))


def f1(predicted: np.ndarray, has: np.ndarray) -> float:
    return 2 * (predicted & has).sum() / (predicted.sum() + has.sum())


@pytest.mark.parametrize("seed", range(3))
def test_both_means_equal_their_formulas_over_known_values_and_attributes_with_positives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(40, 7)).round(1).astype(np.float32)  # with ties
    values = (rng.random((40, 7)) < 0.3).astype(np.float32)
    values[rng.random((40, 7)) < 0.2] = NAN
    values[:, 2] = np.where(np.isnan(values[:, 2]), NAN, 0)  # no image has it
    values[:, 4] = NAN  # nothing is known
    values[:, 5] = 1  # every image has it
    found = attribute_quality(logits, values, np.arange(7) < 3)
    known = [(logits[ok, k], values[ok, k] == 1) for k in (0, 1, 3, 5, 6) if (ok := ~np.isnan(values[:, k])).any()]
    assert found["attribute_map"] == pytest.approx(np.mean([average_precision(z, has) for z, has in known]), abs=1e-12)
    assert found["attribute_f1"] == pytest.approx(np.mean([f1(z >= 0, has) for z, has in known]), abs=1e-12)
    assert found["attribute_prevalence"] == pytest.approx(np.mean([has.mean() for _, has in known]), abs=1e-12)
    assert (found["n_evaluated_attributes"], found["n_attributes_without_positives"]) == (5, 2)
    assert found["n_attributes_without_training"] == 3  # of 0, 1, 3, 5 and 6


def test_a_perfect_prediction_scores_one_and_an_attribute_that_is_never_predicted_has_an_f1_of_zero() -> None:
    values = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=np.float32)
    perfect = attribute_quality(4 * values - 2, values, np.ones(2, bool))
    assert (perfect["attribute_map"], perfect["attribute_f1"]) == (1, 1)
    shy = attribute_quality(4 * values - 6, values, np.ones(2, bool))  # the right order, but no probability of one half
    assert (shy["attribute_map"], shy["attribute_f1"]) == (1, 0)


def test_without_any_attribute_there_is_nothing_to_average() -> None:
    found = attribute_quality(np.zeros((3, 2)), np.array([[0, NAN]] * 3), np.zeros(2, bool))
    assert [found[name] for name in ("attribute_map", "attribute_f1", "attribute_prevalence")] == [None] * 3
    assert (found["n_evaluated_attributes"], found["n_attributes_without_positives"]) == (0, 2)
    assert found["n_attributes_without_training"] == 0
