"""Embeddings that are not finite, or collapsed to a single point, are refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from dmlbench.errors import MethodFailure
from dmlbench.training.embed import refuse_collapse, refuse_not_finite


def test_embeddings_that_are_not_finite_are_counted_and_the_first_is_named() -> None:
    embeddings = torch.ones(5, 3)
    refuse_not_finite(embeddings)
    embeddings[1, 2], embeddings[4, 0] = math.nan, math.inf
    with pytest.raises(MethodFailure, match=r"^2 of 5 embeddings are not finite \(first: index 1\)$"):
        refuse_not_finite(embeddings)


def test_embeddings_that_are_one_point_up_to_rounding_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    point = torch.randn(1, 8, generator=generator)
    noise = torch.randn(100, 8, generator=generator)
    refuse_collapse(normalize(point + 1e-2 * noise))
    with pytest.raises(MethodFailure, match=r"^the embedding collapsed: the mean distance \(1 - cosine\) between images is"):
        refuse_collapse(normalize(point + 1e-6 * noise))
    with pytest.raises(MethodFailure, match=r"^the embedding collapsed: every embedding is zero$"):
        refuse_collapse(normalize(torch.zeros(100, 8)))
    some_zero = normalize(point + 1e-2 * noise)
    some_zero[:50] = 0
    refuse_collapse(some_zero)
    with pytest.raises(MethodFailure, match="not finite"):
        refuse_collapse(torch.full((3, 2), math.nan))
