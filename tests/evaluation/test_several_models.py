"""Runs with one model per fold: means over the models, and metrics of the concatenated embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, evaluate
from dmlbench.evaluation.several_models import concatenated, evaluate_models

CONFIG = EvaluationConfig(ks=(1, 5))


@pytest.fixture(scope="module")
def models() -> list[Embeddings]:
    """Make the embeddings of two models of 4 and 6 dimensions."""
    generator = torch.Generator().manual_seed(0)
    labels, all_items = torch.arange(40) % 5, torch.ones(40, dtype=torch.bool)
    return [
        Embeddings(torch.randn(40, dim, generator=generator), labels, torch.arange(40), all_items, all_items) for dim in (4, 6)
    ]


def test_plain_and_separated_metrics_are_means_over_the_models(models: list[Embeddings]) -> None:
    each = [evaluate(one, CONFIG).columns for one in models]
    found = evaluate_models(models, CONFIG, per_fold=True).columns
    for name in ("map_at_r", "recall_at_5", "nmi", "effective_rank"):
        assert found[name] == found[f"separated_{name}"] == np.mean([columns[name] for columns in each])
    assert [found[f"fold{i}_map_at_r"] for i in (0, 1)] == [columns["map_at_r"] for columns in each]
    assert found["n_queries"] == 40


def test_concatenated_metrics_are_those_of_unit_vectors_of_all_dimensions(models: list[Embeddings]) -> None:
    rows = torch.cat([models[0].rows[:], models[1].rows[:]], dim=1)
    whole = concatenated(models)
    assert torch.equal(whole.rows[:], torch.nn.functional.normalize(rows))
    found = evaluate_models(models, CONFIG, per_fold=True).columns
    expected = evaluate(whole, CONFIG).columns
    assert found["concatenated_dim"] == 10
    assert {name: found[f"concatenated_{name}"] for name in ("map_at_r", "nmi")} == {
        name: expected[name] for name in ("map_at_r", "nmi")
    }


def test_scores_of_queries_have_the_names_of_the_metrics(models: list[Embeddings]) -> None:
    found = evaluate_models(models, CONFIG, per_fold=True)
    for name in ("map_at_r", "concatenated_map_at_r"):
        assert found.tensors[name].mean().item() == pytest.approx(found.columns[name], abs=1e-12)
    assert len(found.each) == 2


def test_one_model_has_the_columns_of_its_evaluation(models: list[Embeddings]) -> None:
    assert evaluate_models(models[:1], CONFIG, per_fold=False).columns == evaluate(models[0], CONFIG).columns
