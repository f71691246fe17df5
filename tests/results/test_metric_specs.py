"""Every declared metric is computed by an evaluation, and every number of an evaluation is declared."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch

from dmlbench.config.schema import Scalar
from dmlbench.evaluation.attribute_quality import attribute_quality
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, evaluate
from dmlbench.results.columns import column
from dmlbench.results.metric_specs import METRIC_SPECS, MetricSpec, parse_metric


@pytest.fixture(scope="module")
def columns() -> Mapping[str, Scalar]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 6
    rows = torch.nn.functional.normalize(torch.randn(60, 8, generator=generator), dim=1)
    all_items = torch.ones(60, dtype=torch.bool)
    found = evaluate(Embeddings(rows, labels, torch.arange(60), all_items, all_items), EvaluationConfig(ks=(1, 5))).columns
    logits = torch.randn(60, 3, generator=generator)
    values = (logits > torch.randn(60, 3, generator=generator)).float().numpy()
    return {**found, **attribute_quality(logits.numpy(), values, values.any(axis=0))}


def test_every_declared_metric_is_a_column_of_an_evaluation_and_within_its_range(columns: Mapping[str, Scalar]) -> None:
    for spec in METRIC_SPECS:
        for k in (1, 5):
            value = columns[spec.name.replace("<k>", str(k))]
            assert isinstance(value, float), spec.name
            assert spec.low <= value <= spec.high, spec.name


def test_every_number_of_an_evaluation_is_a_declared_metric_or_describes_the_evaluation(
    columns: Mapping[str, Scalar],
) -> None:
    descriptive = {name for name in columns if name.startswith(("n_", "cluster_")) or name.endswith(("_std", "_prevalence"))}
    assert {name for name in columns if parse_metric(name) is None} == descriptive


def test_diagnostics_are_not_metrics_and_clustering_metrics_have_no_macro_mean() -> None:
    assert column("effective_rank").role == "result"
    assert column("concatenated_nmi").role == "metric"
    assert parse_metric("macro_map_at_r") is not None
    assert parse_metric("macro_nmi") is None


def test_a_compared_metric_of_which_less_is_better_is_refused_because_bold_marks_the_largest_value() -> None:
    assert all(spec.higher_is_better for spec in METRIC_SPECS if spec.kind != "diagnostic")
    MetricSpec("spread", "Spread", "diagnostic", False, 0, 1, "An example.", "An example, 2020")
    with pytest.raises(ValueError, match="spread: tables compare metrics of which more is better; negate it"):
        MetricSpec("spread", "Spread", "clustering", False, 0, 1, "An example.", "An example, 2020")


def test_names_of_metrics_are_unique_and_every_source_ends_with_its_year() -> None:
    assert len({spec.name for spec in METRIC_SPECS}) == len(METRIC_SPECS)
    assert all(re.search(r"\b(19|20)\d\d$", spec.source) for spec in METRIC_SPECS)


def test_a_metric_without_a_positive_k_is_not_a_column() -> None:
    assert parse_metric("recall_at_0") is None
    assert parse_metric("recall_at_") is None
