"""k-reciprocal re-ranking against the paper's own steps, written with sets and dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmlbench.errors import UserError
from dmlbench.evaluation import rank, score
from dmlbench.evaluation.ranking import ranking_from_scores
from dmlbench.evaluation.reranking import KReciprocal, rerank


def paper(x: np.ndarray, k1: int, k2: int, share: float) -> np.ndarray:
    """The new distance between all items, after Zhong et al., CVPR 2017, sections 3.2 to 3.5."""
    n = len(x)
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    plain = squares / squares.max(1, keepdims=True)
    order = np.argsort(squares, axis=1, kind="stable")

    def nearest(item: int, k: int) -> set[int]:
        return set(order[item, : k + 1].tolist())

    def reciprocal(item: int, k: int) -> set[int]:
        return {other for other in nearest(item, k) if item in nearest(other, k)}

    encoded = np.zeros((n, n))
    for item in range(n):
        kept = reciprocal(item, k1)
        for other in reciprocal(item, k1):
            theirs = reciprocal(other, round(k1 / 2))
            if len(reciprocal(item, k1) & theirs) > 2 / 3 * len(theirs):
                kept |= theirs
        for other in kept:
            encoded[item, other] = np.exp(-plain[item, other])
        encoded[item] /= encoded[item].sum()
    expanded = np.stack([encoded[order[item, :k2]].mean(0) for item in range(n)])
    least = np.minimum(expanded[:, None], expanded[None]).sum(-1)
    return (1 - share) * (1 - least / (2 - least)) + share * plain


def some(n: int = 60, dim: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 8
    rows = torch.randn(8, dim, generator=generator)[labels] + 0.8 * torch.randn(n, dim, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1), labels


@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 0.5), (100, 6, 0.3)])
@pytest.mark.parametrize("apart", [False, True])
def test_it_is_the_papers(monkeypatch: pytest.MonkeyPatch, k1: int, k2: int, share: float, apart: bool):
    monkeypatch.setattr("dmlbench.evaluation.reranking._SCORES_AT_ONCE", 500)  # several blocks
    rows, labels = some()
    ids = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    is_query = torch.arange(60) % 3 == 0 if apart else torch.ones(60, dtype=torch.bool)
    is_gallery = ~is_query if apart else is_query
    found = rerank(rows, labels, ids, is_query, is_gallery, KReciprocal(k1, k2, share), depth=10)
    q, g = is_query.nonzero().squeeze(1), is_gallery.nonzero().squeeze(1)
    distance = torch.from_numpy(paper(rows.double().numpy(), k1, k2, share))[q][:, g]
    # what is equal up to rounding counts as a tie here and there alike
    expected = ranking_from_scores([-(distance * 1e9).round()], labels[q], labels[g], ids[q], ids[g], 10)
    for name, value in score(expected, (1, 5)).items():
        assert score(found, (1, 5))[name] == pytest.approx(value, abs=1e-6), name


def test_a_share_of_one_is_the_plain_distance():
    rows, labels = some()
    everyone, ids = torch.ones(60, dtype=torch.bool), torch.arange(60)
    found = rerank(rows, labels, ids, everyone, everyone, KReciprocal(share=1.0), depth=10)
    assert score(found, (1, 5)) == score(rank(rows, rows, labels, labels, ids, ids, depth=10), (1, 5))


def test_scores_of_ones_own_rank_as_inner_products_do():
    rows, labels = some(seed=3)
    rows[5] = rows[40]  # a tie
    ids = torch.arange(60)
    scores = rows.double() @ rows.double().T
    whole = ranking_from_scores(scores.split(7), labels, labels, ids, ids, 10)
    assert score(whole, (1, 5)) == score(rank(rows, rows, labels, labels, ids, ids, depth=10), (1, 5))


@pytest.mark.parametrize("kind", ["plain", "duplicates", "binary", "collapsed"])
def test_the_order_of_the_rows_never_shows(kind: str):
    rows, labels = some()
    rows = {
        "plain": rows,
        "duplicates": rows[torch.arange(60) // 3],
        "binary": rows.sign(),
        "collapsed": rows[:1].repeat(60, 1),
    }[kind]
    everyone, ids = torch.ones(60, dtype=torch.bool), torch.arange(60)
    found = []
    for order in (ids, torch.randperm(60, generator=torch.Generator().manual_seed(2)), labels.argsort()):
        ranking = rerank(rows[order], labels[order], ids[order], everyone, everyone, KReciprocal(k1=5, k2=2), depth=10)
        assert ranking.query_ids.equal(ids[order])
        found.append(score(ranking, (1, 5)))
    assert found[0] == found[1] == found[2]


def test_a_collapsed_embedding_scores_about_chance_though_sorted_by_class():
    n, rows = 400, torch.ones(400, 4)
    everyone, ids, labels = torch.ones(n, dtype=torch.bool), torch.arange(n), torch.arange(n) // 40
    found = score(rerank(rows, labels, ids, everyone, everyone, KReciprocal(), depth=10), (1,))
    assert found["recall_at_1"] == pytest.approx(39 / 399, abs=0.06)


@pytest.mark.parametrize(("k1", "k2", "share"), [(5, 6, 0.3), (5, 0, 0.3), (5, 1, 1.5)])
def test_impossible_parameters_are_refused(k1: int, k2: int, share: float):
    with pytest.raises(UserError, match=r"rerank\."):
        KReciprocal(k1, k2, share)
