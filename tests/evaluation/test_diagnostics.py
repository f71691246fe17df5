"""Diagnostics against sums over every pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dmlbench.evaluation.diagnostics import class_distances, effective_rank, geometry


def some(n: int = 40, dim: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator) + 0.5, torch.randint(0, 5, (n,), generator=generator)


@pytest.mark.parametrize("at_once", [2**24, 12])
def test_class_distances_are_means_over_every_pair(monkeypatch: pytest.MonkeyPatch, at_once: int):
    monkeypatch.setattr("dmlbench.evaluation.diagnostics._SUMS_AT_ONCE", at_once)
    rows, labels = some()
    unit = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
    within, between = [], []
    for i, j in itertools.combinations(range(len(rows)), 2):
        (within if labels[i] == labels[j] else between).append(1 - unit[i] @ unit[j])
    found = class_distances(rows, labels)
    assert found["intra_class_distance"] == pytest.approx(np.mean(within), abs=1e-12)
    assert found["inter_class_distance"] == pytest.approx(np.mean(between), abs=1e-12)


def test_where_there_is_no_pair_there_is_no_distance():
    rows, _ = some(4)
    assert class_distances(rows, torch.arange(4))["intra_class_distance"] is None
    assert class_distances(rows, torch.zeros(4, dtype=torch.int64))["inter_class_distance"] is None


def test_the_effective_rank_is_that_of_the_singular_values():
    rows, _ = some()
    values = np.linalg.svd(rows.double().numpy() - rows.double().numpy().mean(0), compute_uv=False)
    shares = values / values.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), abs=1e-9)


def test_one_point_has_rank_zero_and_one_line_rank_one():
    assert effective_rank(torch.ones(10, 4)) == 0
    assert effective_rank(torch.arange(10.0)[:, None] * torch.tensor([[1.0, 2.0, 3.0]]) + 7) == pytest.approx(1, abs=1e-6)


def test_all_diagnostics_are_there():
    assert set(geometry(*some())) == {"effective_rank", "intra_class_distance", "inter_class_distance"}
