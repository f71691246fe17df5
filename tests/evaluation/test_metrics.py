"""Metrics of a ranking: closed forms are compared with exact fractions, and with the mean over every order of the ties."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from oracles import mean_of, order_scores, orders

from dmlbench.errors import UserError
from dmlbench.evaluation.metrics import score
from dmlbench.evaluation.query_metrics import (
    map_at_r,
    mean_reciprocal_rank,
    precision_at_k,
    r_precision,
    recall_at_k,
    retrieved_at_k,
    tied_share,
)
from dmlbench.evaluation.ranking import Ranking
from dmlbench.results.columns import column


def ranking_of(*queries: list[list[bool]]) -> Ranking:
    """Make the ranking of queries from the relevance of their tie groups, best first; all have the same number of items."""
    n_items = sum(map(len, queries[0]))
    columns: dict[str, list[list[int]]] = {name: [] for name in ("relevant", "start", "size", "hits")}
    best = []
    for groups in queries:
        starts = [sum(map(len, groups[:i])) for i in range(len(groups))]
        columns["relevant"].append([relevant for group in groups for relevant in group])
        columns["start"].append([starts[i] for i, group in enumerate(groups) for _ in group])
        columns["size"].append([len(group) for group in groups for _ in group])
        columns["hits"].append([sum(group) for group in groups for _ in group])
        best.append(next((starts[i], len(group), sum(group)) for i, group in enumerate(groups) if any(group)))
    above, tied, tied_relevant = torch.tensor(best).unbind(1)
    return Ranking(
        query_ids=torch.arange(len(queries)),
        query_labels=torch.zeros(len(queries), dtype=torch.int64),
        n_relevant=torch.tensor(columns["relevant"]).sum(1),
        group_start=torch.tensor(columns["start"]),
        group_size=torch.tensor(columns["size"]),
        group_relevant=torch.tensor(columns["hits"]),
        best_above=above,
        best_tied=tied,
        best_tied_relevant=tied_relevant,
        n_excluded=0,
        n_gallery=n_items + 1,
    )


def one_group(n: int, r: int, above: int = 0) -> Ranking:
    """Make the ranking of a query with `above` irrelevant items, followed by n tied items, r of them relevant."""
    return ranking_of([[False]] * above + [[True] * r + [False] * (n - r)])


def test_metrics_of_a_ranking_without_ties_have_their_textbook_values():
    ranking = ranking_of([[True], [False], [True], [True], [False]])
    assert recall_at_k(ranking, 1).item() == 1
    assert precision_at_k(ranking, 2).item() == 1 / 2
    assert r_precision(ranking).item() == pytest.approx(2 / 3, abs=1e-15)
    assert map_at_r(ranking).item() == pytest.approx((1 + 2 / 3) / 3, abs=1e-15)


def test_map_at_r_divides_by_r_and_not_by_the_number_of_hits():
    first_of_three = ranking_of([[True], [False], [False], [True], [True]])
    assert map_at_r(first_of_three).item() == pytest.approx(1 / 3, abs=1e-15)


def test_precision_at_k_divides_by_k_even_if_fewer_items_are_relevant():
    assert precision_at_k(ranking_of([[True], [False], [False], [False]]), 4).item() == 1 / 4


@pytest.mark.parametrize("n_relevant", [1, 2, 4])
def test_a_perfect_ranking_scores_exactly_one_for_classes_of_any_size(n_relevant: int):
    ranking = ranking_of([[True]] * n_relevant + [[False]] * 5)
    assert r_precision(ranking).item() == map_at_r(ranking).item() == recall_at_k(ranking, 1).item() == 1


@pytest.mark.parametrize(
    ("n", "r", "above", "k"),
    [
        (1, 1, 0, 1),
        (5, 2, 0, 1),
        (5, 2, 3, 3),
        (5, 2, 3, 4),
        (5, 2, 3, 7),
        (9, 9, 0, 3),
        (60, 7, 0, 30),
        (5923, 59, 0, 1),
        (5923, 59, 0, 10),
        (5923, 59, 0, 1000),
        (5923, 59, 500, 1000),
        (5923, 1, 0, 5922),
        (5923, 4000, 0, 900),
        (60501, 11, 0, 1000),
    ],
)
def test_recall_at_k_equals_the_exact_hypergeometric_fraction(n: int, r: int, above: int, k: int):
    m = min(max(k - above, 0), n)
    exact = 1 - Fraction(math.comb(n - r, m), math.comb(n, m))
    found = recall_at_k(recall_ranking(n, r, above), k).item()
    assert abs(Fraction(found) - exact) < Fraction(1, 10**12)


def recall_ranking(n: int, r: int, above: int) -> Ranking:
    """Make a ranking with only those fields that Recall@k reads."""
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    return Ranking(
        *(torch.tensor([1]) for _ in range(3)),
        *(nothing for _ in range(3)),
        *(torch.tensor([count]) for count in (above, n, r)),
        n_excluded=0,
        n_gallery=n + above,
    )


def test_recall_at_k_of_many_queries_equals_that_of_each_query_alone():
    cases = [(n, r, above) for n in range(1, 7) for r in range(1, n + 1) for above in (0, 2)]
    together = Ranking(
        *(torch.ones(len(cases), dtype=torch.int64) for _ in range(3)),
        *(torch.zeros(len(cases), 0, dtype=torch.int64) for _ in range(3)),
        best_above=torch.tensor([above for _, _, above in cases]),
        best_tied=torch.tensor([n for n, _, _ in cases]),
        best_tied_relevant=torch.tensor([r for _, r, _ in cases]),
        n_excluded=0,
        n_gallery=9,
    )
    for k in range(1, 10):
        assert recall_at_k(together, k).tolist() == [recall_at_k(recall_ranking(*case), k).item() for case in cases]


def test_recall_at_k_is_one_if_k_exceeds_the_gallery():
    assert recall_at_k(one_group(5, 2, above=3), 1000).item() == 1


def test_every_metric_equals_its_mean_over_all_orders_of_the_ties():
    for n in range(1, 6):
        for r in range(1, n + 1):
            groups = [[True], [True] * r + [False] * (n - r), [False, True, False], [True]]
            n_relevant = sum(map(sum, groups))
            ks = range(1, n + 6)
            expected = mean_of([order_scores(order, n_relevant, ks) for order in orders(groups)])
            # The hit at rank 1 determines recall, so recall is checked without it.
            tie_first = mean_of([order_scores(order, n_relevant, ks) for order in orders(groups[1:])])
            ranking = ranking_of(groups)
            assert r_precision(ranking).item() == pytest.approx(expected["r_precision"], abs=1e-12)
            assert map_at_r(ranking).item() == pytest.approx(expected["map_at_r"], abs=1e-12)
            for k in ks:
                assert precision_at_k(ranking, k).item() == pytest.approx(expected[f"precision_at_{k}"], abs=1e-12)
                recall = recall_at_k(ranking_of(groups[1:]), k).item()
                assert recall == pytest.approx(tie_first[f"recall_at_{k}"], abs=1e-12)
                retrieved = retrieved_at_k(ranking, k).item()
                assert retrieved == pytest.approx(expected[f"retrieved_at_{k}"], abs=1e-12)
            reciprocal = mean_reciprocal_rank(ranking_of(groups[1:])).item()
            assert reciprocal == pytest.approx(tie_first["mean_reciprocal_rank"], abs=1e-12)


@pytest.mark.parametrize(("n", "r", "above"), [(1, 1, 0), (7, 3, 2), (300, 1, 5), (300, 290, 0), (2000, 7, 1000)])
def test_the_mean_reciprocal_rank_equals_the_exact_fraction(n: int, r: int, above: int):
    probabilities = [Fraction(math.comb(n - t, r - 1), math.comb(n, r)) for t in range(1, n - r + 2)]
    exact = sum(probability / (above + t) for t, probability in enumerate(probabilities, start=1))
    assert mean_reciprocal_rank(one_group(n, r, above)).item() == pytest.approx(float(exact), abs=1e-13)


def test_reciprocal_ranks_of_many_queries_equal_those_of_each_query_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dmlbench.evaluation.query_metrics._MAX_CASE_POSITIONS", 40)
    shapes = [(n, r, above) for n in (1, 2, 7, 30) for r in (1, 2, 7) if r <= n for above in (0, 3)]
    parts = [one_group(*shape) for shape in shapes]
    columns = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in ("best_above", "best_tied", "best_tied_relevant")
    }
    together = dataclasses.replace(parts[0], **columns)
    assert mean_reciprocal_rank(together).tolist() == [mean_reciprocal_rank(part).item() for part in parts]


def test_a_macro_mean_gives_every_class_the_same_weight():
    found, missed = [[True], [False]], [[False], [True]]
    ranking = dataclasses.replace(ranking_of(found, found, found, missed), query_labels=torch.tensor([5, 5, 5, 9]))
    columns = score(ranking, ks=(1,))
    assert columns["recall_at_1"] == 3 / 4
    assert columns["macro_recall_at_1"] == 1 / 2


def test_the_tied_share_counts_the_first_r_ranks_only():
    ranking = ranking_of([[True], [True, False], [False, False]])
    assert tied_share(ranking).item() == 1 / 2


def test_precision_at_k_beyond_the_depth_is_refused_and_the_message_gives_the_depth():
    with pytest.raises(ValueError, match="depth 5, not 6"):
        precision_at_k(one_group(5, 2), 6)


@pytest.mark.parametrize("metric", [recall_at_k, precision_at_k])
def test_k_equal_to_zero_is_refused(metric):
    with pytest.raises(ValueError, match="not 0"):
        metric(one_group(5, 2), 0)


def test_scores_are_one_float64_number_between_zero_and_one_per_query():
    ranking = ranking_of([[True, False], [True]], [[False, False], [True]])
    for values in (
        recall_at_k(ranking, 1),
        precision_at_k(ranking, 3),
        r_precision(ranking),
        map_at_r(ranking),
    ):
        assert values.dtype == torch.float64
        assert values.shape == (2,)
        assert ((values >= 0) & (values <= 1)).all()


def test_score_returns_declared_metrics_and_counts():
    columns = score(ranking_of([[True, False], [True]]), ks=(1, 2, 1000))
    metrics = [name for name in columns if column(name).role == "metric"]
    recalls = ["recall_at_1", "recall_at_2", "recall_at_1000"]
    within = ["precision_at_1", "precision_at_2", "retrieved_at_1", "retrieved_at_2"]
    plain = [*recalls, *within, "r_precision", "map_at_r", "mean_reciprocal_rank"]
    assert metrics == [*plain, *(f"macro_{name}" for name in plain)]
    assert set(columns) - set(metrics) == {"n_queries", "n_excluded", "n_gallery", "n_tied_queries", "tied_share"}


def test_only_ties_of_relevant_and_irrelevant_items_within_the_first_r_ranks_are_counted():
    matters = [[True, False], [False], [False]]
    below_r = [[False], [True, False], [False]]
    among_equals = [[True, True], [False, False]]
    ranking = ranking_of(matters, below_r, among_equals)
    assert score(ranking, ks=(1,))["n_tied_queries"] == 1


def test_a_ranking_without_any_relevant_item_is_refused():
    no_queries = torch.zeros(0, dtype=torch.int64)
    no_ranks = torch.zeros(0, 1, dtype=torch.int64)
    empty = Ranking(*[no_queries] * 3, *[no_ranks] * 3, *[no_queries] * 3, n_excluded=12, n_gallery=12)
    with pytest.raises(UserError, match=r"none of the 12 queries .* a test class with two images"):
        score(empty, ks=(1,))
