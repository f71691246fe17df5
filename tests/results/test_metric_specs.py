"""What is declared is computed, and what is computed is declared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dmlbench.rows import is_metric

from dmlbench.evaluation.embedding_files import Embeddings
from dmlbench.evaluation.evaluator import Judging, judge
from dmlbench.results.metric_specs import METRIC_SPECS, parse_metric


@pytest.fixture(scope="module")
def columns() -> dict:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 6
    rows = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
    everyone = torch.ones(60, dtype=torch.bool)
    return dict(judge(Embeddings(rows, labels, torch.arange(60), everyone, everyone), Judging(ks=(1, 5))).columns)


def test_every_declared_measure_is_a_column_of_a_judgement_within_its_range(columns: dict) -> None:
    for measure in METRIC_SPECS:
        for k in (1, 5):
            value = columns[measure.name.replace("<k>", str(k))]
            assert measure.low <= value <= measure.high, measure.name


def test_every_number_that_judges_is_declared(columns: dict) -> None:
    about = {name for name in columns if name.startswith(("n_", "cluster_")) or name.endswith("_std")}
    assert {name for name in columns if parse_metric(name) is None} == about


def test_diagnostics_are_no_metrics_and_clusters_have_no_macro_mean() -> None:
    assert not is_metric("effective_rank")
    assert is_metric("concatenated_nmi")
    assert parse_metric("macro_nmi") is None


def test_names_are_unique_and_say_their_source() -> None:
    assert len({measure.name for measure in METRIC_SPECS}) == len(METRIC_SPECS)
    assert all(np.char.isdigit(measure.source[-4:]) for measure in METRIC_SPECS)


def test_k_of_zero_is_no_column() -> None:
    assert parse_metric("recall_at_0") is None
    assert parse_metric("recall_at_") is None
