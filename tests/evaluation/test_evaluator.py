"""One way from embeddings to numbers, however many ranks its queries need."""

from __future__ import annotations

import pytest
import torch

from dmlbench.evaluation.embedding_files import Embeddings
from dmlbench.evaluation.evaluator import Judging, _of_like_size, judge


def items(distance: str = "inner_product") -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.zeros(40), torch.arange(1, 13).repeat_interleave(4), torch.arange(100, 106)]).long()
    rows = torch.nn.functional.normalize(torch.randn(len(labels), 6, generator=generator), dim=1)
    order = torch.randperm(len(labels), generator=generator)
    everyone = torch.ones(len(labels), dtype=torch.bool)
    return Embeddings(rows[order], labels[order], order, everyone, everyone)


@pytest.mark.parametrize("distance", ["inner_product", "cosine", "euclidean"])
@pytest.mark.parametrize("ranks", [1, 60, 400])
def test_queries_in_parts_score_as_they_do_together(monkeypatch: pytest.MonkeyPatch, ranks: int, distance: str) -> None:
    how = Judging(ks=(1, 2, 4), clusters=0, distance=distance)
    whole = judge(items(), how)
    monkeypatch.setattr("dmlbench.evaluation.evaluator._RANKS_AT_ONCE", ranks)
    parts = judge(items(), how)
    assert parts.columns == whole.columns
    by_id = whole.scored.ids.argsort()
    assert parts.scored.ids.equal(whole.scored.ids[by_id])
    for name, values in whole.per_query.items():
        assert parts.per_query[name].equal(values[by_id]), name


def test_small_classes_do_not_pay_for_large_ones() -> None:
    labels = torch.cat([torch.zeros(3000), torch.arange(1, 1001).repeat_interleave(4)]).long()
    parts = _of_like_size(labels, labels)
    assert sorted(torch.cat(parts).tolist()) == list(range(7000))
    longest = [int(torch.bincount(labels)[labels[part]].max()) for part in parts]
    assert all(len(part) * n <= 2**21 or len(part) == 1 for part, n in zip(parts, longest, strict=True))


def test_queries_without_a_relevant_item_never_make_a_part_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmlbench.evaluation.evaluator._RANKS_AT_ONCE", 1)
    labels = torch.cat([torch.arange(50), torch.full((3,), 99)])
    first, *_ = _of_like_size(labels, labels)
    assert 99 in labels[first]
    assert len(_of_like_size(torch.arange(5), torch.arange(5))) == 1
