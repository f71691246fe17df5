"""Metrics as functions of a ranking: closed forms against exact fractions and every order of the ties."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from dmlbench.rows import is_metric
from oracles import mean_of, order_scores, orders

from dmlbench.errors import UserError
from dmlbench.evaluation.metrics import (
    map_at_r,
    mean_reciprocal_rank,
    precision_at_k,
    r_precision,
    recall_at_k,
    retrieved_at_k,
    score,
    tied_share,
)
from dmlbench.evaluation.ranking import Ranking


def ranking_of(*queries: list[list[bool]]) -> Ranking:
    """The ranking of queries given as tie groups of relevance, best first; all find as many items."""
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
    """A query whose first `above` items are irrelevant and whose next n, r of them relevant, tie."""
    return ranking_of([[False]] * above + [[True] * r + [False] * (n - r)])


def test_one_order_without_ties_gives_the_textbook_values():
    ranking = ranking_of([[True], [False], [True], [True], [False]])
    assert recall_at_k(ranking, 1).item() == 1
    assert precision_at_k(ranking, 2).item() == 1 / 2
    assert r_precision(ranking).item() == pytest.approx(2 / 3, abs=1e-15)
    assert map_at_r(ranking).item() == pytest.approx((1 + 2 / 3) / 3, abs=1e-15)


def test_map_at_r_divides_by_r_and_not_by_the_hits_found():
    first_of_three = ranking_of([[True], [False], [False], [True], [True]])
    assert map_at_r(first_of_three).item() == pytest.approx(1 / 3, abs=1e-15)


def test_precision_divides_by_k_also_where_fewer_are_relevant():
    assert precision_at_k(ranking_of([[True], [False], [False], [False]]), 4).item() == 1 / 4


@pytest.mark.parametrize("n_relevant", [1, 2, 4])
def test_a_perfect_order_scores_exactly_one_however_small_the_class(n_relevant: int):
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
    found = recall_at_k(bare(n, r, above), k).item()
    assert abs(Fraction(found) - exact) < Fraction(1, 10**12)


def bare(n: int, r: int, above: int) -> Ranking:
    """A ranking that holds only what recall reads."""
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    return Ranking(
        *(torch.tensor([1]) for _ in range(3)),
        *(nothing for _ in range(3)),
        *(torch.tensor([count]) for count in (above, n, r)),
        n_excluded=0,
        n_gallery=n + above,
    )


def test_recall_at_k_of_many_queries_at_once_equals_one_at_a_time():
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
        assert recall_at_k(together, k).tolist() == [recall_at_k(bare(*case), k).item() for case in cases]


def test_recall_at_k_beyond_the_gallery_is_one():
    assert recall_at_k(one_group(5, 2, above=3), 1000).item() == 1


def test_every_metric_equals_its_mean_over_all_orders_of_the_ties():
    for n in range(1, 6):
        for r in range(1, n + 1):
            groups = [[True], [True] * r + [False] * (n - r), [False, True, False], [True]]
            n_relevant = sum(map(sum, groups))
            ks = range(1, n + 6)
            expected = mean_of([order_scores(order, n_relevant, ks) for order in orders(groups)])
            # The hit on top decides recall, so let the tie stand first for it.
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
def test_the_reciprocal_rank_equals_its_exact_fraction(n: int, r: int, above: int):
    chances = [Fraction(math.comb(n - t, r - 1), math.comb(n, r)) for t in range(1, n - r + 2)]
    exact = sum(chance / (above + t) for t, chance in enumerate(chances, start=1))
    assert mean_reciprocal_rank(one_group(n, r, above)).item() == pytest.approx(float(exact), abs=1e-13)


def test_reciprocal_ranks_of_many_queries_at_once_equal_one_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dmlbench.evaluation.metrics._CASES_AT_ONCE", 40)
    shapes = [(n, r, above) for n in (1, 2, 7, 30) for r in (1, 2, 7) if r <= n for above in (0, 3)]
    parts = [one_group(*shape) for shape in shapes]
    columns = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in ("best_above", "best_tied", "best_tied_relevant")
    }
    together = dataclasses.replace(parts[0], **columns)
    assert mean_reciprocal_rank(together).tolist() == [mean_reciprocal_rank(part).item() for part in parts]


def test_a_macro_mean_counts_classes_alike():
    found, missed = [[True], [False]], [[False], [True]]
    ranking = dataclasses.replace(ranking_of(found, found, found, missed), query_labels=torch.tensor([5, 5, 5, 9]))
    columns = score(ranking, ks=(1,))
    assert columns["recall_at_1"] == 3 / 4
    assert columns["macro_recall_at_1"] == 1 / 2


def test_the_share_of_ties_counts_the_first_r_ranks_alone():
    ranking = ranking_of([[True], [True, False], [False, False]])
    assert tied_share(ranking).item() == 1 / 2


def test_precision_beyond_the_depth_is_refused_with_the_depth():
    with pytest.raises(ValueError, match="depth 5, not 6"):
        precision_at_k(one_group(5, 2), 6)


@pytest.mark.parametrize("metric", [recall_at_k, precision_at_k])
def test_a_k_of_zero_is_refused(metric):
    with pytest.raises(ValueError, match="not 0"):
        metric(one_group(5, 2), 0)


def test_scores_are_one_float64_number_in_zero_to_one_per_query():
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


def test_the_columns_of_a_row_are_known_to_it_as_metrics_and_counts():
    columns = score(ranking_of([[True, False], [True]]), ks=(1, 2, 1000))
    metrics = [name for name in columns if is_metric(name)]
    recalls = ["recall_at_1", "recall_at_2", "recall_at_1000"]
    within = ["precision_at_1", "precision_at_2", "retrieved_at_1", "retrieved_at_2"]
    plain = [*recalls, *within, "r_precision", "map_at_r", "mean_reciprocal_rank"]
    assert metrics == [*plain, *(f"macro_{name}" for name in plain)]
    assert set(columns) - set(metrics) == {"n_queries", "n_excluded", "n_gallery", "n_tied_queries", "tied_share"}


def test_only_ties_for_a_place_among_the_first_r_are_counted():
    matters = [[True, False], [False], [False]]
    below_r = [[False], [True, False], [False]]
    among_equals = [[True, True], [False, False]]
    ranking = ranking_of(matters, below_r, among_equals)
    assert score(ranking, ks=(1,))["n_tied_queries"] == 1


def test_a_set_without_any_match_is_refused_in_one_sentence():
    nobody = torch.zeros(0, dtype=torch.int64)
    nowhere = torch.zeros(0, 1, dtype=torch.int64)
    empty = Ranking(*[nobody] * 3, *[nowhere] * 3, *[nobody] * 3, n_excluded=12, n_gallery=12)
    with pytest.raises(UserError, match=r"none of the 12 queries .* a test class with two images"):
        score(empty, ks=(1,))
