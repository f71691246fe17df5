"""The search: every known way in which an evaluation goes wrong, against oracles that share no code."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle_scores
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation import Ranking, rank, score

KS = (1, 2, 5, 40)


def embeddings(n: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    """Unit vectors without ties, float32 `(n, dim)`."""
    values = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=1)


def search(x: torch.Tensor, labels: list[int] | torch.Tensor, **options) -> Ranking:
    """Every item a query among all the others."""
    labels, ids = torch.as_tensor(labels), torch.arange(len(x))
    return rank(x, x, labels, labels, ids, ids, **options)


def scores_of(x: torch.Tensor, labels: list[int] | torch.Tensor, **options) -> dict[str, float]:
    return score(search(x, labels, **options), KS)


def assert_agrees_with_oracle(*arguments: torch.Tensor) -> None:
    found = score(rank(*arguments, depth=max(KS)), KS)
    expected = oracle_scores(*[argument.numpy() for argument in arguments], ks=KS)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name
    beyond = {f"{mean}{name}_at_{k}" for mean in ("", "macro_") for name in ("precision", "retrieved") for k in KS}
    assert expected.keys() - found.keys() <= beyond  # of the gallery


# Agreement


@pytest.mark.parametrize("seed", range(3))
def test_random_sets_agree_with_the_float64_oracle(seed: int):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (30,), generator=generator)
    x, ids = embeddings(30, seed=seed), torch.randperm(30, generator=generator)
    assert_agrees_with_oracle(x, x, labels, labels, ids, ids)


# From small labels over those that float32 and float64 merge, to the ends of int64.
LABELS = [0, 1, 2**24, 2**24 + 1, 2**53, 2**53 + 1, -(2**63)]


@st.composite
def small_sets(draw):
    """Queries and gallery of integer embeddings, which tie often; some images stand on both sides."""
    n = draw(st.integers(2, 9))
    dim = draw(st.integers(1, 3))
    item = st.tuples(st.sampled_from(LABELS), st.lists(st.integers(-2, 2), min_size=dim, max_size=dim))
    items = draw(st.lists(item, min_size=n, max_size=n))
    ids = draw(st.permutations([LABELS[-1], *range(n - 1)]))
    in_gallery = draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    as_query = draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    x = torch.tensor([values for _, values in items], dtype=torch.float32)
    if draw(st.booleans()):
        x = torch.nn.functional.normalize(x, dim=1)
    labels, ids = torch.tensor([label for label, _ in items]), torch.tensor(ids)
    return [side for whole in (x, labels, ids) for side in (whole[as_query], whole[in_gallery])]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(small_sets())
def test_any_small_set_with_ties_agrees_with_the_enumerating_oracle(arguments):
    try:
        assert_agrees_with_oracle(*arguments)
    except UserError:
        counts = oracle_scores(*[argument.numpy() for argument in arguments], ks=KS)
        assert counts["n_queries"] == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(small_sets(), st.integers(0, 12))
def test_the_depth_never_changes_a_score(arguments, depth):
    shallow, deep = rank(*arguments, depth=depth), rank(*arguments, depth=100)
    assert shallow.depth <= deep.depth == len(arguments[1])
    if shallow.n_queries:
        found, expected = score(shallow, KS), score(deep, KS)
        assert found == {name: pytest.approx(expected[name], abs=1e-15) for name in found}


def test_pytorch_metric_learning_agrees_where_it_is_right():
    labels = torch.arange(60) % 7  # classes of 8 and 9
    x = embeddings(60)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
    calculator = AccuracyCalculator(include=names, k=None, knn_func=CustomKNN(CosineSimilarity()), device=torch.device("cpu"))
    theirs = calculator.get_accuracy(x, labels)
    ranking = search(x, labels)
    ours = score(ranking, (1,))
    assert ours["precision_at_1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["recall_at_1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["map_at_r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)
    reciprocal = (1 / (1 + ranking.best_above.double())).mean().item()
    assert reciprocal == pytest.approx(theirs["mean_reciprocal_rank"], abs=1e-6)


# The query itself


def test_a_duplicate_in_another_class_never_hides_the_query_itself():
    n = 40
    x = embeddings(n).repeat(2, 1)  # image i and image i + n are the same bytes in different classes
    labels = torch.cat([torch.arange(n) % 5, 5 + torch.arange(n) % 5])
    found = scores_of(x, labels)
    assert found["recall_at_1"] == 0
    assert found["precision_at_1"] == 0


def test_the_query_is_left_out_by_id_and_not_by_position():
    x, labels, ids = embeddings(30), torch.arange(30) % 5, torch.arange(30) + 2**60
    there = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    moved = rank(x, x[there], labels, labels[there], ids, ids[there])
    assert score(moved, KS) == scores_of(x, labels)


def test_separate_queries_and_gallery_leave_nothing_out():
    x, labels = embeddings(12), torch.arange(12) % 3
    apart = rank(x, x, labels, labels, torch.arange(12), torch.arange(12) + 100)
    assert apart.n_relevant.tolist() == [4] * 12  # each finds its own copy too
    assert score(apart, KS)["recall_at_1"] == 1


def test_training_images_in_the_gallery_are_distractors_for_test_queries():
    x, labels, ids = (
        embeddings(40),
        torch.cat([torch.arange(20) % 4, 4 + torch.arange(20) % 4]),
        torch.arange(40),
    )
    test = slice(20, 40)
    mixed = (x[test], x, labels[test], labels, ids[test], ids)
    assert_agrees_with_oracle(*mixed)
    alone = score(rank(x[test], x[test], labels[test], labels[test], ids[test], ids[test]), KS)
    found = score(rank(*mixed), KS)
    assert found["n_gallery"] == 40
    assert found["n_queries"] == 20
    assert found["map_at_r"] < alone["map_at_r"]


def test_an_id_that_stands_twice_is_refused():
    x, labels = embeddings(4), torch.tensor([0, 0, 1, 1])
    ids, padded = torch.arange(4), torch.tensor([0, 1, 2, 2])
    with pytest.raises(ValueError, match="gallery_ids: the id 2 stands more than once"):
        rank(x, x, labels, labels, ids, padded)


# R and the labels


def test_a_perfect_embedding_scores_one_even_with_classes_of_two():
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2])
    found = scores_of(torch.eye(3)[labels], labels)
    assert {found[name] for name in ("recall_at_1", "precision_at_1", "r_precision", "map_at_r")} == {1.0}


def test_a_class_with_one_image_is_excluded_and_counted():
    x, labels = embeddings(7), [0, 0, 0, 1, 2, 2, 3]
    ranking = search(x, labels)
    assert ranking.query_ids.tolist() == [0, 1, 2, 4, 5]
    assert ranking.n_relevant.tolist() == [2, 2, 2, 1, 1]
    found = score(ranking, KS)
    assert (found["n_queries"], found["n_excluded"], found["n_gallery"]) == (5, 2, 7)


def test_singletons_everywhere_are_refused_in_one_sentence():
    with pytest.raises(UserError, match="none of the 5 queries"):
        scores_of(embeddings(5), [0, 1, 2, 3, 4])


def test_the_depth_is_the_greatest_r_of_the_labels():
    labels = [0] * 11 + [1] * 3
    assert search(embeddings(14), labels).depth == 10
    assert search(embeddings(14), labels, depth=12).depth == 12
    assert search(embeddings(14), labels, depth=1000).depth == 14


@pytest.mark.parametrize("base", [2**24, 2**53, 2**62])
def test_labels_that_a_float_would_merge_stay_apart(base: int):
    x, labels = embeddings(24), torch.arange(24) % 4
    assert scores_of(x, labels + base) == scores_of(x, labels)


# Ties


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e6])
def test_a_collapsed_embedding_scores_exactly_chance(scale: float):
    sizes = [2, 5, 37, 120, 137]  # odd, so that the matrix product sums its edges in another order
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    n = sum(sizes) - 1
    found = scores_of(scale * embeddings(1, dim=333).repeat(sum(sizes), 1), labels)
    chance = dict.fromkeys((*(f"recall_at_{k}" for k in KS), "precision_at_1", "r_precision", "map_at_r"), 0.0)
    for size in sizes:
        r, weight = size - 1, size / sum(sizes)
        for k in KS:
            chance[f"recall_at_{k}"] += weight * (1 - math.comb(n - r, k) / math.comb(n, k))
        chance["precision_at_1"] += weight * r / n
        chance["r_precision"] += weight * r / n
        terms = [(1 + (i - 1) * (r - 1) / (n - 1)) / i for i in range(1, r + 1)]
        chance["map_at_r"] += weight * (r / n) * sum(terms) / r
    assert {name: found[name] for name in chance} == pytest.approx(chance, abs=1e-12)
    assert found["n_tied_queries"] == sum(sizes)


def tied_set() -> tuple[torch.Tensor, torch.Tensor]:
    """120 images, half of them copies of another in any class, whose groups lie across every cut."""
    generator = torch.Generator().manual_seed(3)
    x = embeddings(60, dim=65)[torch.randint(0, 60, (120,), generator=generator)]
    return x, torch.randint(0, 20, (120,), generator=generator)


@pytest.mark.parametrize("seed", range(5))
def test_no_permutation_of_the_rows_changes_a_bit(seed: int):
    x, labels = tied_set()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert scores_of(x[order], labels[order], depth=40) == scores_of(x, labels, depth=40)


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 64, 10_000])
def test_no_chunk_size_changes_a_bit(chunk_size: int):
    x, labels = tied_set()
    assert scores_of(x, labels, depth=40, chunk_size=chunk_size) == scores_of(x, labels, depth=40)


def test_a_gallery_larger_than_a_block_is_scored_in_smaller_ones(monkeypatch: pytest.MonkeyPatch):
    x, labels = tied_set()
    expected = scores_of(x, labels)
    monkeypatch.setattr("dmlbench.evaluation.knn_search._BLOCK_SCORES", 450)
    assert scores_of(x, labels) == expected


def test_a_tie_across_the_cut_gets_its_size_from_the_whole_row():
    query, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([5, 7, 5, 7, 7, 7])
    gallery = torch.tensor([[1.0, 0.0], [0.5, 0.1], [0.5, 0.2], [0.5, 0.3], [0.5, 0.4], [0.1, 0.0]])
    ranking = rank(query, gallery, labels[:1], labels, torch.tensor([9]), torch.arange(6))
    assert ranking.depth == 2
    assert ranking.group_start.tolist() == [[0, 1]]
    assert ranking.group_size.tolist() == [[1, 4]]
    assert ranking.group_relevant.tolist() == [[1, 1]]


def test_the_best_relevant_item_below_the_cut_is_found_with_its_tie():
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.7, 0.0], [0.2, 0.5], [0.2, 0.6], [0.2, 0.7], [0.1, 0.0]])
    labels = torch.tensor([7, 7, 7, 5, 7, 5, 7])
    ranking = rank(query, gallery, torch.tensor([5]), labels, torch.tensor([9]), torch.arange(7))
    assert ranking.depth == 2
    assert ranking.group_relevant.tolist() == [[0, 0]]
    assert (ranking.best_above.item(), ranking.best_tied.item(), ranking.best_tied_relevant.item()) == (
        3,
        3,
        2,
    )


def test_scores_that_differ_by_the_rounding_of_their_sum_alone_are_tied():
    generator = torch.Generator().manual_seed(0)
    values = embeddings(1, dim=300)[0]
    # The same numbers in another order: equal sums, of which float64 rounds each its own way.
    gallery = torch.stack([values[torch.randperm(300, generator=generator)] for _ in range(7)])
    query = torch.full((1, 300), 0.1)
    assert len((query.double() @ gallery.double().T).unique()) > 1
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    arguments = (query, gallery, labels[:1], labels, torch.tensor([9]), torch.arange(7))
    assert rank(*arguments).group_size.tolist() == [[7] * 3]
    assert_agrees_with_oracle(*arguments)


def test_a_difference_in_the_last_digit_of_float32_is_no_tie():
    base = embeddings(1, dim=512)
    nearer = base.clone()
    nearer[0, 0] = torch.nextafter(base[0, 0], torch.copysign(torch.tensor(2.0), base[0, 0]))
    gallery, labels = torch.cat([base, nearer]), torch.tensor([0, 1])
    ranking = rank(base, gallery, torch.tensor([1]), labels, torch.tensor([9]), torch.arange(2))
    assert ranking.group_relevant.tolist() == [[1]]
    assert ranking.group_size.tolist() == [[1]]


@pytest.mark.parametrize("constant", [1.0, -30.0, 1000.0])
def test_a_constant_added_to_all_scores_changes_nothing(constant: float):
    x, labels = tied_set()
    ids = torch.arange(len(x))
    one, shift = torch.ones(len(x), 1), torch.full((len(x), 1), constant)
    shifted = rank(torch.cat([x, one], 1), torch.cat([x, shift], 1), labels, labels, ids, ids)
    assert score(shifted, KS) == scores_of(x, labels)


def test_the_length_of_the_embeddings_changes_nothing():
    x, labels = tied_set()
    assert scores_of(x * 2**40, labels) == scores_of(x * 2**-40, labels) == scores_of(x, labels)


# What cannot be ranked


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused_with_their_rows(value: float):
    x, labels, ids = embeddings(9), torch.arange(9) % 3, torch.arange(9)
    broken = x.clone()
    broken[[2, 5], 3] = value
    with pytest.raises(MethodFailure, match=r"2 of 9 query embeddings are NaN or infinite \(rows 2, 5\)"):
        rank(broken, x, labels, labels, ids, ids)
    broken[1:] = value
    with pytest.raises(MethodFailure, match=r"8 of 9 gallery embeddings .* \(rows 1, 2, 3, 4, 5, \.\.\.\)"):
        rank(x, broken, labels, labels, ids, ids)


def test_lengths_that_do_not_fit_are_refused_with_both_numbers():
    x, labels, ids = embeddings(9), torch.arange(9) % 3, torch.arange(9)
    with pytest.raises(ValueError, match=r"query_labels have the shape \(8,\), query embeddings 9 rows"):
        rank(x, x, labels[:8], labels, ids, ids)
    with pytest.raises(ValueError, match=r"gallery_ids have the shape \(7,\), gallery embeddings 9 rows"):
        rank(x, x, labels, labels, ids, ids[:7])
    with pytest.raises(ValueError, match="queries have 7 columns but the gallery has 8"):
        rank(x[:, :7], x, labels, labels, ids, ids)
    with pytest.raises(ValueError, match="queries have 1 dimensions, the gallery has 2"):
        rank(x[0], x, labels, labels, ids, ids)


def test_labels_of_another_type_are_refused():
    x, labels, ids = embeddings(9), torch.arange(9) % 3, torch.arange(9)
    with pytest.raises(ValueError, match="gallery_labels must be int64, not float32"):
        rank(x, x, labels, labels.float(), ids, ids)


def test_an_empty_gallery_is_refused():
    x, labels, ids = embeddings(3), torch.arange(3), torch.arange(3)
    with pytest.raises(ValueError, match="the gallery is empty"):
        rank(x, x[:0], labels, labels[:0], ids, ids[:0])


# Whatever the embeddings and however the search is cut up


def kinds() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Ways to make embeddings difficult, of 40 random ones."""
    normal = torch.nn.functional.normalize
    return {
        "plain": lambda x: normal(x, dim=1),
        "duplicates": lambda x: x[(torch.arange(40) ** 2) % 13],
        "whole numbers": lambda x: (2 * x).round(),
        "binary codes": lambda x: x.sign() / x.shape[1] ** 0.5,
        "collapsed": lambda x: x[:1].repeat(40, 1),
        "nearly collapsed": lambda x: normal(x[:1] + 1e-7 * x, dim=1),
        "an outlier": lambda x: torch.cat([1e4 * x[:1], x[1:]]),
        "half precision": lambda x: x.half().float(),
        "huge": lambda x: 1e36 * x,
        "tiny": lambda x: 1e-39 * x,
        "of every size": lambda x: x * 10.0 ** (torch.arange(40) % 60 - 30)[:, None],
    }


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("piece", "group", "margin", "chunk"), [(2**16, None, 4, None), (7, 1, 1, 5), (16, 4, 2, 1), (33, 2, 1, None)]
)
@pytest.mark.parametrize("kind", kinds())
def test_every_field_is_that_of_exactly_rounded_scores(monkeypatch, kind: str, piece, group, margin, chunk, apart: bool):
    from dmlbench.evaluation import knn_search as module

    monkeypatch.setattr(module, "_PIECE", piece)
    monkeypatch.setattr(module, "_MARGIN", margin)
    monkeypatch.setattr(module, "_PICKS_AT_ONCE", 2**16 if chunk is None else 3)
    if group:
        monkeypatch.setattr(module, "group_size", lambda width, n_listed: group)
    generator = torch.Generator().manual_seed(len(kind))
    x = kinds()[kind](torch.randn(40, 9, generator=generator))
    labels, ids = torch.arange(40) % 7, torch.randperm(40, generator=generator)
    q, g = (torch.arange(15), torch.arange(10, 40)) if apart else (torch.arange(40), torch.arange(40))
    found = rank(x[q], x[g], labels[q], labels[g], ids[q], ids[g], depth=9, chunk_size=chunk)
    for line, query in enumerate(q.tolist()):
        others = [other for other in g.tolist() if other != query]
        scores = {other: math.fsum((x[query].double() * x[other].double()).tolist()) for other in others}
        order = sorted(others, key=lambda other: -scores[other])
        for rank_ in range(min(found.depth, len(order))):
            tied = [other for other in others if scores[other] == scores[order[rank_]]]
            hits = sum(int(labels[other] == labels[query]) for other in tied)
            start = sum(scores[other] > scores[order[rank_]] for other in others)
            here = [getattr(found, name)[line, rank_].item() for name in ("group_start", "group_size", "group_relevant")]
            assert here == [start, len(tied), hits]
        best = next(other for other in order if labels[other] == labels[query])
        tied = [other for other in others if scores[other] == scores[best]]
        assert found.best_above[line] == sum(scores[other] > scores[best] for other in others)
        assert found.best_tied[line] == len(tied)
        assert found.best_tied_relevant[line] == sum(int(labels[other] == labels[query]) for other in tied)


@pytest.mark.parametrize("kind", ["binary codes", "nearly collapsed", "plain"])
@pytest.mark.parametrize("chunk_size", [None, 40, 7])
def test_a_chunk_larger_than_the_room_for_scores_changes_nothing(monkeypatch, kind: str, chunk_size: int | None):
    from dmlbench.evaluation import knn_search as module

    x = kinds()[kind](torch.randn(40, 9, generator=torch.Generator().manual_seed(1)))
    labels = torch.arange(40) % 7
    expected = scores_of(x, labels)
    monkeypatch.setattr(module, "_BLOCK_SCORES", 320)  # eight queries at once in float32, two in float64
    assert scores_of(x, labels, chunk_size=chunk_size) == expected
