"""Diagnostics, compared with loops over all pairs and with singular values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dmlbench.evaluation.diagnostics import class_distances, effective_rank, geometry


def random_embeddings(n: int = 40, dim: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator) + 0.5, torch.randint(0, 5, (n,), generator=generator)


@pytest.mark.parametrize("components", [2**24, 12])
def test_class_distances_are_means_over_all_pairs(monkeypatch: pytest.MonkeyPatch, components: int):
    monkeypatch.setattr("dmlbench.evaluation.diagnostics._MAX_SUM_COMPONENTS", components)
    rows, labels = random_embeddings()
    unit = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
    within, between = [], []
    for i, j in itertools.combinations(range(len(rows)), 2):
        (within if labels[i] == labels[j] else between).append(1 - unit[i] @ unit[j])
    found = class_distances(rows, labels)
    assert found["intra_class_distance"] == pytest.approx(np.mean(within), abs=1e-12)
    assert found["inter_class_distance"] == pytest.approx(np.mean(between), abs=1e-12)


def test_a_distance_is_none_if_there_is_no_pair():
    rows, _ = random_embeddings(4)
    assert class_distances(rows, torch.arange(4))["intra_class_distance"] is None
    assert class_distances(rows, torch.zeros(4, dtype=torch.int64))["inter_class_distance"] is None


def test_the_effective_rank_is_the_exponential_of_the_entropy_of_singular_values():
    rows, _ = random_embeddings()
    values = np.linalg.svd(rows.double().numpy() - rows.double().numpy().mean(0), compute_uv=False)
    shares = values / values.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), abs=1e-9)


def test_equal_embeddings_have_effective_rank_zero_and_a_line_has_one():
    assert effective_rank(torch.ones(10, 4)) == 0
    assert effective_rank(torch.arange(10.0)[:, None] * torch.tensor([[1.0, 2.0, 3.0]]) + 7) == pytest.approx(1, abs=1e-6)


def test_geometry_returns_all_diagnostics():
    assert set(geometry(*random_embeddings())) == {"effective_rank", "intra_class_distance", "inter_class_distance"}
