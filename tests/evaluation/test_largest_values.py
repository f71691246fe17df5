"""The largest values of each row."""

from __future__ import annotations

import pytest
import torch

from dmlbench.evaluation import selection
from dmlbench.evaluation.selection import largest, largest_in_order


def values_with_ties() -> torch.Tensor:
    """Make 50 rows of 40 numbers that often tie, some of them minus infinity."""
    values = torch.randint(-9, 9, (50, 40), generator=torch.Generator().manual_seed(0)).float()
    return torch.where(values < -7, -torch.inf, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 39, 40, 41])
@pytest.mark.parametrize("at_once", [2**18, 100, 1])
def test_the_largest_values_are_those_of_a_sort(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, n: int, at_once: int
) -> None:
    monkeypatch.setattr(selection, "_MAX_VALUES", at_once)
    values = values_with_ties().to(dtype)
    expected = values.sort(dim=1, descending=True).values[:, :n]
    columns = largest(values, n)
    assert values.gather(1, columns).sort(dim=1, descending=True).values.equal(expected)
    assert all(len(row.unique()) == len(row) for row in columns)
    found, columns = largest_in_order(values, n)
    assert found.equal(expected)
    assert values.gather(1, columns).equal(expected)
