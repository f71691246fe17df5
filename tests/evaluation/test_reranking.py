"""k-reciprocal re-ranking, compared with the steps of the paper, written with sets and dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmlbench.errors import UserError
from dmlbench.evaluation import rank, score
from dmlbench.evaluation.reranking import KReciprocal, rerank
from dmlbench.evaluation.score_ranking import ranking_from_scores


def paper_distances(x: np.ndarray, k1: int, k2: int, share: float) -> np.ndarray:
    """Compute the new distances between all items as in Zhong et al., CVPR 2017, sections 3.2 to 3.5."""
    n = len(x)
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    original = squares / squares.max(1, keepdims=True)
    order = np.argsort(squares, axis=1, kind="stable")

    def nearest(item: int, k: int) -> set[int]:
        return set(order[item, : k + 1].tolist())

    def reciprocal(item: int, k: int) -> set[int]:
        return {other for other in nearest(item, k) if item in nearest(other, k)}

    encoded = np.zeros((n, n))
    for item in range(n):
        kept = reciprocal(item, k1)
        for other in reciprocal(item, k1):
            others = reciprocal(other, round(k1 / 2))
            if len(reciprocal(item, k1) & others) > 2 / 3 * len(others):
                kept |= others
        for other in kept:
            encoded[item, other] = np.exp(-original[item, other])
        encoded[item] /= encoded[item].sum()
    expanded = np.stack([encoded[order[item, :k2]].mean(0) for item in range(n)])
    least = np.minimum(expanded[:, None], expanded[None]).sum(-1)
    return (1 - share) * (1 - least / (2 - least)) + share * original


def random_embeddings(n: int = 60, dim: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 8
    rows = torch.randn(8, dim, generator=generator)[labels] + 0.8 * torch.randn(n, dim, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1), labels


@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 0.5), (100, 6, 0.3)])
@pytest.mark.parametrize("separate", [False, True])
def test_metrics_after_re_ranking_equal_those_of_the_paper(
    monkeypatch: pytest.MonkeyPatch, k1: int, k2: int, share: float, separate: bool
):
    monkeypatch.setattr("dmlbench.evaluation.reranking._MAX_SCORES", 500)  # several blocks
    rows, labels = random_embeddings()
    ids = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    is_query = torch.arange(60) % 3 == 0 if separate else torch.ones(60, dtype=torch.bool)
    is_gallery = ~is_query if separate else is_query
    found = rerank(rows, labels, ids, is_query, is_gallery, KReciprocal(k1, k2, share), depth=10)
    q, g = is_query.nonzero().squeeze(1), is_gallery.nonzero().squeeze(1)
    distance = torch.from_numpy(paper_distances(rows.double().numpy(), k1, k2, share))[q][:, g]
    # Distances are rounded, so that those that are equal up to rounding are ties.
    expected = ranking_from_scores([-(distance * 1e9).round()], labels[q], labels[g], ids[q], ids[g], 10)
    for name, value in score(expected, (1, 5)).items():
        assert score(found, (1, 5))[name] == pytest.approx(value, abs=1e-6), name


def test_a_weight_of_one_gives_the_original_distance():
    rows, labels = random_embeddings()
    all_items, ids = torch.ones(60, dtype=torch.bool), torch.arange(60)
    found = rerank(rows, labels, ids, all_items, all_items, KReciprocal(share=1.0), depth=10)
    assert score(found, (1, 5)) == score(rank(rows, rows, labels, labels, ids, ids, depth=10), (1, 5))


def test_a_ranking_from_scores_equals_that_of_inner_products():
    rows, labels = random_embeddings(seed=3)
    rows[5] = rows[40]  # a tie
    ids = torch.arange(60)
    scores = rows.double() @ rows.double().T
    whole = ranking_from_scores(scores.split(7), labels, labels, ids, ids, 10)
    assert score(whole, (1, 5)) == score(rank(rows, rows, labels, labels, ids, ids, depth=10), (1, 5))


@pytest.mark.parametrize("kind", ["plain", "duplicates", "binary", "collapsed"])
def test_the_order_of_the_rows_does_not_change_metrics(kind: str):
    rows, labels = random_embeddings()
    rows = {
        "plain": rows,
        "duplicates": rows[torch.arange(60) // 3],
        "binary": rows.sign(),
        "collapsed": rows[:1].repeat(60, 1),
    }[kind]
    all_items, ids = torch.ones(60, dtype=torch.bool), torch.arange(60)
    found = []
    for order in (ids, torch.randperm(60, generator=torch.Generator().manual_seed(2)), labels.argsort()):
        ranking = rerank(rows[order], labels[order], ids[order], all_items, all_items, KReciprocal(k1=5, k2=2), depth=10)
        assert ranking.query_ids.equal(ids[order])
        found.append(score(ranking, (1, 5)))
    assert found[0] == found[1] == found[2]


def test_a_collapsed_embedding_that_is_sorted_by_class_scores_near_chance_level():
    n, rows = 400, torch.ones(400, 4)
    all_items, ids, labels = torch.ones(n, dtype=torch.bool), torch.arange(n), torch.arange(n) // 40
    found = score(rerank(rows, labels, ids, all_items, all_items, KReciprocal(), depth=10), (1,))
    assert found["recall_at_1"] == pytest.approx(39 / 399, abs=0.06)


@pytest.mark.parametrize(("k1", "k2", "share"), [(5, 6, 0.3), (5, 0, 0.3), (5, 1, 1.5)])
def test_impossible_parameters_are_refused(k1: int, k2: int, share: float):
    with pytest.raises(UserError, match=r"rerank\."):
        KReciprocal(k1, k2, share)
