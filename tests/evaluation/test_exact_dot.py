"""Inner products that are correct to the last bit, and the error bound of matrix products."""

from __future__ import annotations

import math

import pytest
import torch

from dmlbench.evaluation.embedding_rows import validate_and_hash
from dmlbench.evaluation.exact_dot import SEGMENT, error_bound, exact_dots, is_exact, required_bits, segment_dots


def random_rows(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    """Make rows whose components differ in size by up to 20 powers of two, float32 `(n, dim)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator) * 2.0 ** torch.randint(-10, 10, (n, dim), generator=generator)


@pytest.mark.parametrize("dim", [0, 1, 2, 3, 7, 64, 333])
def test_exact_dots_are_correctly_rounded(dim: int) -> None:
    left, right = random_rows(50, dim), random_rows(50, dim, seed=1)
    expected = [math.fsum(products) for products in (left.double() * right.double()).tolist()]
    assert exact_dots(left, right).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_error_of_a_matrix_product_is_within_its_bound(dtype: torch.dtype) -> None:
    rows = random_rows(40, 300)
    exact = torch.stack([exact_dots(row.expand(40, -1), rows) for row in rows])
    norms = rows.double().norm(dim=1)
    error = ((rows.to(dtype) @ rows.to(dtype).T).double() - exact).abs()
    assert (error <= error_bound(300, dtype) * norms[:, None] * norms).all()


@pytest.mark.parametrize("dim", [0, 1, 15, 16, 17, 512, 1000])
def test_the_error_of_segment_dots_is_that_of_one_segment(dim: int) -> None:
    left, right = random_rows(500, dim), random_rows(500, dim, seed=1)
    error = (segment_dots(left, right) - exact_dots(left, right)).abs()
    norms = left.double().norm(dim=1) * right.double().norm(dim=1)
    assert (error <= error_bound(min(dim, SEGMENT), torch.float32) * norms).all()


def test_products_of_few_bits_are_exact_and_of_many_bits_are_not() -> None:
    assert required_bits(torch.tensor([[1.0, -1.0]])) == 1
    assert required_bits(torch.tensor([[7.0, 0.5]])) == 4
    assert is_exact(1, 1, 512, torch.float32)
    assert not is_exact(8, 8, 512, torch.float32)
    assert is_exact(8, 8, 512, torch.float64)


def test_more_than_26_bits_count_as_many_because_later_rows_may_need_more() -> None:
    rows = torch.ones(40, 2)
    assert validate_and_hash("", rows).bits == 1
    rows[0, 0] = 2.0**-30
    assert validate_and_hash("", rows).bits == 64
