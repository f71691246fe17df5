"""Drawn queries: the same for every method, from queries with a relevant item."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.queries import draw_queries


def items(rows: Tensor | None = None, in_gallery: bool = True) -> Embeddings:
    """Thirty images of ten classes of two, and ten classes of one, in any order."""
    labels = torch.cat([torch.arange(10).repeat_interleave(2), torch.arange(10, 20)])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    every = torch.ones(30, dtype=torch.bool)
    rows = torch.randn(30, 4) if rows is None else rows
    return Embeddings(rows, labels[order], order, every, every if in_gallery else ~every)


def drawn(n: int, seed: int = 0) -> list[int]:
    found = draw_queries(items(), n, seed)
    return sorted(found.ids[found.is_query].tolist())


def test_the_draw_depends_on_the_ids_and_the_seed_and_on_nothing_else() -> None:
    assert drawn(8) == drawn(8)
    assert drawn(8) != drawn(8, seed=1)
    assert drawn(8) == [0, 2, 4, 7, 11, 14, 15, 18], "existing rows were evaluated on these queries"


def test_a_smaller_draw_is_part_of_a_larger_one() -> None:
    assert set(drawn(3)) < set(drawn(8)) < set(drawn(20))


def test_queries_without_a_relevant_item_are_never_drawn() -> None:
    assert drawn(20) == list(range(20)), "ids 20 to 29 are classes of one image"


def test_the_other_items_stay_in_the_gallery() -> None:
    before, after = items(), draw_queries(items(), 5, 0)
    assert after.is_gallery.equal(before.is_gallery)
    assert after.ids.equal(before.ids)
    assert int(after.is_query.sum()) == 5
    assert draw_queries(before, None, 0) is before


def test_every_query_is_drawn_about_equally_often() -> None:
    counts = torch.bincount(torch.tensor([one for seed in range(400) for one in drawn(5, seed)]), minlength=20)
    assert counts[:20].min() > 60
    assert counts.max() < 145  # 100 expected, standard deviation 8.7


def test_more_queries_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match=r"^queries=21: there are 20 queries with another image of their class"):
        draw_queries(items(), 21, 0)
