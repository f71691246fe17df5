"""All metrics from embeddings; queries are ranked in groups of similar numbers of relevant items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import oracle_scores

from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.evaluator import Distance, EvaluationConfig, _groups_of_similar_size, evaluate, refuse_impossible
from dmlbench.evaluation.reranking import KReciprocal


def items() -> Embeddings:
    """Make items of one large class, twelve small ones, and six classes with one item."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.zeros(40), torch.arange(1, 13).repeat_interleave(4), torch.arange(100, 106)]).long()
    rows = torch.nn.functional.normalize(torch.randn(len(labels), 6, generator=generator), dim=1)
    order = torch.randperm(len(labels), generator=generator)
    all_items = torch.ones(len(labels), dtype=torch.bool)
    return Embeddings(rows[order], labels[order], order, all_items, all_items)


@pytest.mark.parametrize("distance", ["inner_product", "cosine", "euclidean"])
@pytest.mark.parametrize("ranks", [1, 60, 400])
def test_queries_in_groups_have_the_same_metrics_as_together(
    monkeypatch: pytest.MonkeyPatch, ranks: int, distance: Distance
) -> None:
    config = EvaluationConfig(ks=(1, 2, 4), clusters_per_class=0, distance=distance)
    together = evaluate(items(), config)
    monkeypatch.setattr("dmlbench.evaluation.evaluator._MAX_RANKS", ranks)
    in_groups = evaluate(items(), config)
    assert in_groups.columns == together.columns
    assert in_groups.scores.ids.equal(together.scores.ids)
    for name, values in together.per_query.items():
        assert in_groups.per_query[name].equal(values), name


@pytest.mark.parametrize("ranks", [100, 1_000, 10**6])
def test_the_scores_of_a_query_in_both_galleries_have_its_id_whatever_the_order_of_the_items(
    monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    shuffled = items()
    is_test = shuffled.ids % 2 == 0
    shuffled = replace(shuffled, is_query=is_test, is_gallery=is_test)
    config = EvaluationConfig(ks=(1, 2, 4), clusters_per_class=0, full_gallery=True)
    expected = evaluate(shuffled.in_order(shuffled.ids.argsort()), config)
    monkeypatch.setattr("dmlbench.evaluation.evaluator._MAX_RANKS", ranks)
    found = evaluate(shuffled, config)
    assert found.scores.ids.equal(expected.scores.ids)
    for name, values in expected.per_query.items():
        assert found.per_query[name].equal(values), name


def test_a_large_class_does_not_make_the_lists_of_small_classes_long() -> None:
    labels = torch.cat([torch.zeros(3000), torch.arange(1, 1001).repeat_interleave(4)]).long()
    groups = _groups_of_similar_size(labels, labels, depth=1)
    assert sorted(torch.cat(groups).tolist()) == list(range(7000))
    longest = [int(torch.bincount(labels)[labels[group]].max()) for group in groups]
    assert all(len(group) * n <= 2**21 or len(group) == 1 for group, n in zip(groups, longest, strict=True))
    assert longest[0] == 4


def test_long_lists_of_neighbours_are_divided_into_groups_of_bounded_size() -> None:
    labels = torch.arange(1000).repeat_interleave(5)
    groups = _groups_of_similar_size(labels, labels, depth=4000)
    assert sorted(torch.cat(groups).tolist()) == list(range(5000))
    assert max(map(len, groups)) * 4000 <= 2**21


@pytest.mark.parametrize("ranks", [2**21, 90])
def test_every_k_that_the_user_chose_is_computed_also_beyond_r(monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    """Queries and gallery as in the split `half_per_class`, where R is below 30: halves of the images of each class."""
    monkeypatch.setattr("dmlbench.evaluation.evaluator._MAX_RANKS", ranks)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat_interleave(torch.tensor([8, 10, 14, 20, 26]))
    rows = torch.randint(-6, 7, (len(labels), 4), generator=generator).float()  # with ties
    rows[:, 0] += labels
    is_query = torch.arange(len(labels)) % 2 == 0
    found = evaluate(
        Embeddings(rows, labels, torch.arange(len(labels)), is_query, ~is_query),
        EvaluationConfig(ks=(1, 5, 10, 20, 30, 39), clusters_per_class=0, all_ks=True),
    )
    ids = np.arange(len(labels))
    parts = [values[part] for values in (rows.numpy(), labels.numpy(), ids) for part in (is_query.numpy(), ~is_query.numpy())]
    expected = oracle_scores(*parts, ks=(1, 5, 10, 20, 30, 39))
    for k in (1, 5, 10, 20, 30, 39):
        for name in (f"recall_at_{k}", f"precision_at_{k}", f"retrieved_at_{k}", f"macro_precision_at_{k}"):
            assert found.columns[name] == pytest.approx(expected[name], abs=1e-12), name
    assert found.columns["map_at_r"] == pytest.approx(expected["map_at_r"], abs=1e-12)
    assert found.per_query["precision_at_30"].shape == (int(is_query.sum()),)


def test_k_may_be_the_whole_gallery_if_a_query_is_outside_of_it() -> None:
    generator = torch.Generator().manual_seed(1)
    rows, labels = torch.randn(12, 3, generator=generator), torch.arange(12) % 3
    is_gallery = torch.arange(12) < 9
    embeddings = Embeddings(rows, labels, torch.arange(12), torch.ones(12, dtype=torch.bool), is_gallery)
    config = EvaluationConfig(ks=(9,), clusters_per_class=0, all_ks=True)
    refuse_impossible(embeddings, config)
    # Every query finds all relevant items among nine: two for the queries in the gallery, three for the others.
    assert evaluate(embeddings, config).columns["precision_at_9"] == pytest.approx((9 * 2 + 3 * 3) / 12 / 9)


def test_queries_without_a_relevant_item_do_not_form_a_group_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmlbench.evaluation.evaluator._MAX_RANKS", 1)
    labels = torch.cat([torch.arange(50), torch.full((3,), 99)])
    first, *_ = _groups_of_similar_size(labels, labels, depth=1)
    assert 99 in labels[first]
    assert len(_groups_of_similar_size(torch.arange(5), torch.arange(5), depth=1)) == 1


def test_the_columns_of_a_configuration_leave_out_disabled_transformations() -> None:
    assert EvaluationConfig(ks=(1, 5)).columns == {
        "evaluation_recall_at": "[1, 5]",
        "evaluation_distance": "inner_product",
    }
    full = EvaluationConfig((1,), 2, "cosine", whiten=8, beta=0.5, rerank=KReciprocal(5, 2, 0.25))
    assert full.columns == {
        "evaluation_recall_at": "[1]",
        "evaluation_distance": "cosine",
        "evaluation_clusters": 2,
        "evaluation_whiten": 8,
        "evaluation_beta": 0.5,
        "evaluation_rerank": "k_reciprocal",
        "evaluation_rerank_k1": 5,
        "evaluation_rerank_k2": 2,
        "evaluation_rerank_lambda": 0.25,
    }


def test_clustering_runs_by_default_up_to_a_limit_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate(items(), EvaluationConfig(ks=(1,))).columns["n_clusters"] == 19
    monkeypatch.setattr("dmlbench.evaluation.evaluator.MAX_CLUSTERS", 18)
    assert "n_clusters" not in evaluate(items(), EvaluationConfig(ks=(1,))).columns
    assert evaluate(items(), EvaluationConfig(ks=(1,), clusters_per_class=1)).columns["n_clusters"] == 19


def test_evaluations_that_would_be_meaningless_are_refused() -> None:
    found = items()
    one_class = replace(found, labels=torch.full_like(found.labels, 3))
    with pytest.raises(UserError, match=r"^x\.npz: all 94 embeddings are of class 3; retrieval needs two classes$"):
        refuse_impossible(one_class, EvaluationConfig((1,)), "x.npz")
    with pytest.raises(UserError, match=r"^all 94 embeddings are of class 3; retrieval needs two classes$"):
        evaluate(one_class, EvaluationConfig((1,)))
    queries = torch.arange(94) % 2 == 0
    one_in_gallery = replace(found, labels=torch.where(queries, found.labels, 3), is_query=queries, is_gallery=~queries)
    sentence = r"all 47 items of the gallery are of class 3; retrieval needs two classes, because otherwise no result could be"
    with pytest.raises(UserError, match=f"^{sentence}"):
        evaluate(one_in_gallery, EvaluationConfig((1,)))
    with pytest.raises(UserError, match=rf"^x\.npz: {sentence}"):
        refuse_impossible(one_in_gallery, EvaluationConfig((1,)), "x.npz")
    with pytest.raises(UserError, match=r"^ks=95: x\.npz has a gallery of 94 items; k can be at most that$"):
        refuse_impossible(found, EvaluationConfig((1, 95), all_ks=True), "x.npz")
    with pytest.raises(UserError, match=r"^ks=94: the gallery has 94 items, including the query itself; k can be at most 93$"):
        refuse_impossible(found, EvaluationConfig((94,), all_ks=True))
    refuse_impossible(found, EvaluationConfig((1, 95)))


@pytest.mark.parametrize("distance", ["inner_product", "cosine", "euclidean"])
def test_embeddings_that_are_all_zero_or_all_equal_are_a_failure_of_the_method(distance: Distance) -> None:
    config = EvaluationConfig((1,), distance=distance)
    for rows, how in ((torch.zeros(94, 8), "zero"), (torch.ones(94, 8), "equal")):
        with pytest.raises(MethodFailure, match=rf"^the embedding collapsed: all 94 embeddings are {how}, so nothing can be"):
            evaluate(replace(items(), rows=rows), config)
    almost = torch.ones(94, 8)
    almost[-1, -1] = 2
    assert evaluate(replace(items(), rows=almost), config).columns["n_queries"] == 88
