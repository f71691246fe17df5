"""The metric on which models are selected: the same number as in a row, without the other metrics."""

from __future__ import annotations

import pytest
import torch

from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, evaluate
from dmlbench.evaluation.single_metric import selection_metric, single_metric


def items() -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat_interleave(8)
    rows = torch.nn.functional.normalize(torch.randn(48, 5, generator=generator) + labels[:, None] / 3, dim=1)
    every = torch.ones(48, dtype=torch.bool)
    return Embeddings(rows, labels, torch.arange(48), every, every)


@pytest.mark.parametrize("clusters", [1, 3])
def test_every_metric_of_a_row_on_which_models_can_be_selected_is_equal_to_that_of_the_row(clusters: int) -> None:
    row = evaluate(items(), EvaluationConfig(ks=(1, 2, 20), clusters_per_class=clusters, all_ks=True)).columns
    names = [name for name in row if selection_metric(name) is not None]
    assert {"map_at_r", "macro_recall_at_2", "precision_at_20", "nmi", "ami", "purity", "pairwise_f1"} <= set(names)
    for name in names:
        assert single_metric(items(), name, clusters) == pytest.approx(row[name], abs=1e-12), name


def test_clusters_are_the_same_in_every_epoch() -> None:
    assert len({single_metric(items(), "nmi", 3) for _ in range(3)}) == 1


def test_a_collapsed_embedding_has_a_score_because_another_epoch_may_be_selected() -> None:
    collapsed = items()
    collapsed.rows[:] = collapsed.rows[0].clone()
    assert single_metric(collapsed, "purity") < 0.4
    assert 0 <= single_metric(collapsed, "nmi") < 0.2


@pytest.mark.parametrize(
    "name", ["tied_share", "effective_rank", "full_map_at_r", "concatenated_nmi", "n_queries", "mapatr", "attribute_map"]
)
def test_models_are_not_selected_on_diagnostics_or_other_galleries(name: str) -> None:
    assert selection_metric(name) is None
