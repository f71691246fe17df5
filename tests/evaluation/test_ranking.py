"""The search, compared with oracles that share no code with it, on data with known pitfalls of retrieval evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle_scores
from processes_helper import forked
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from dmlbench import evaluate
from dmlbench.errors import MethodFailure, UserError
from dmlbench.evaluation import Ranking, knn_search, rank, score, score_tile, score_tiles
from dmlbench.training.environment import make_deterministic

KS = (1, 2, 5, 40)


def embeddings(n: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    """Make unit vectors without ties, float32 `(n, dim)`."""
    values = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(values, dim=1)


def search(x: torch.Tensor, labels: list[int] | torch.Tensor, **options) -> Ranking:
    """Rank all other items for each item."""
    labels, ids = torch.as_tensor(labels), torch.arange(len(x))
    return rank(x, x, labels, labels, ids, ids, **options)


def scores_of(x: torch.Tensor, labels: list[int] | torch.Tensor, **options) -> dict[str, float]:
    return score(search(x, labels, **options), KS)


def assert_agrees_with_oracle(*arguments: torch.Tensor) -> None:
    found = score(rank(*arguments, depth=max(KS)), KS)
    expected = oracle_scores(*[argument.numpy() for argument in arguments], ks=KS)
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-9), name
    beyond_gallery = {f"{mean}{name}_at_{k}" for mean in ("", "macro_") for name in ("precision", "retrieved") for k in KS}
    assert expected.keys() - found.keys() <= beyond_gallery


# Agreement with oracles


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_random_data_agree_with_the_oracle(seed: int):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (30,), generator=generator)
    x, ids = embeddings(30, seed=seed), torch.randperm(30, generator=generator)
    assert_agrees_with_oracle(x, x, labels, labels, ids, ids)


# Small labels, labels that float32 and float64 would merge, and the smallest int64.
LABELS = [0, 1, 2**24, 2**24 + 1, 2**53, 2**53 + 1, -(2**63)]


@st.composite
def small_sets(draw):
    """Queries and gallery of integer embeddings, which often tie; some items are on both sides."""
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
def test_metrics_of_any_small_data_with_ties_agree_with_the_oracle(arguments):
    try:
        assert_agrees_with_oracle(*arguments)
    except UserError:
        counts = oracle_scores(*[argument.numpy() for argument in arguments], ks=KS)
        assert counts["n_queries"] == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(small_sets(), st.integers(0, 12))
def test_the_depth_does_not_change_metrics(arguments, depth):
    shallow, deep = rank(*arguments, depth=depth), rank(*arguments, depth=100)
    assert shallow.depth <= deep.depth == len(arguments[1])
    if shallow.n_queries:
        found, expected = score(shallow, KS), score(deep, KS)
        assert found == {name: pytest.approx(expected[name], abs=1e-15) for name in found}


def test_metrics_agree_with_pytorch_metric_learning_on_data_without_pitfalls():
    labels = torch.arange(60) % 7  # classes of 8 and 9
    x = embeddings(60)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
    calculator = AccuracyCalculator(include=names, k=None, knn_func=CustomKNN(CosineSimilarity()), device=torch.device("cpu"))
    expected = calculator.get_accuracy(x, labels)
    ranking = search(x, labels)
    found = score(ranking, (1,))
    assert found["precision_at_1"] == pytest.approx(expected["precision_at_1"], abs=1e-6)
    assert found["recall_at_1"] == pytest.approx(expected["precision_at_1"], abs=1e-6)
    assert found["r_precision"] == pytest.approx(expected["r_precision"], abs=1e-6)
    assert found["map_at_r"] == pytest.approx(expected["mean_average_precision_at_r"], abs=1e-6)
    reciprocal = (1 / (1 + ranking.best_above.double())).mean().item()
    assert reciprocal == pytest.approx(expected["mean_reciprocal_rank"], abs=1e-6)


# Exclusion of the query itself


def test_a_duplicate_of_another_class_is_not_excluded_instead_of_the_query():
    n = 40
    x = embeddings(n).repeat(2, 1)  # image i and image i + n are the same bytes in different classes
    labels = torch.cat([torch.arange(n) % 5, 5 + torch.arange(n) % 5])
    found = scores_of(x, labels)
    assert found["recall_at_1"] == 0
    assert found["precision_at_1"] == 0


def test_the_query_is_excluded_by_its_id_and_not_by_its_position():
    x, labels, ids = embeddings(30), torch.arange(30) % 5, torch.arange(30) + 2**60
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    permuted = rank(x, x[order], labels, labels[order], ids, ids[order])
    assert score(permuted, KS) == scores_of(x, labels)


def test_no_item_is_excluded_if_queries_are_not_in_the_gallery():
    x, labels = embeddings(12), torch.arange(12) % 3
    separate = rank(x, x, labels, labels, torch.arange(12), torch.arange(12) + 100)
    assert separate.n_relevant.tolist() == [4] * 12  # including the copy of the query
    assert score(separate, KS)["recall_at_1"] == 1


def test_training_items_in_the_gallery_are_distractors_for_test_queries():
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


def test_an_id_that_occurs_twice_is_refused():
    x, labels = embeddings(4), torch.tensor([0, 0, 1, 1])
    ids, padded = torch.arange(4), torch.tensor([0, 1, 2, 2])
    with pytest.raises(ValueError, match="gallery_ids must be unique, but the id 2 occurs more than once"):
        rank(x, x, labels, labels, ids, padded)


# R and the labels


def test_a_perfect_embedding_scores_one_even_with_classes_of_two():
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2])
    found = scores_of(torch.eye(3)[labels], labels)
    assert {found[name] for name in ("recall_at_1", "precision_at_1", "r_precision", "map_at_r")} == {1.0}


def test_queries_of_a_class_with_one_item_are_excluded_and_counted():
    x, labels = embeddings(7), [0, 0, 0, 1, 2, 2, 3]
    ranking = search(x, labels)
    assert ranking.query_ids.tolist() == [0, 1, 2, 4, 5]
    assert ranking.n_relevant.tolist() == [2, 2, 2, 1, 1]
    found = score(ranking, KS)
    assert (found["n_queries"], found["n_excluded"], found["n_gallery"]) == (5, 2, 7)


def test_data_with_one_item_per_class_is_refused():
    with pytest.raises(UserError, match="none of the 5 queries"):
        scores_of(embeddings(5), [0, 1, 2, 3, 4])


def test_the_depth_is_at_least_the_largest_r():
    labels = [0] * 11 + [1] * 3
    assert search(embeddings(14), labels).depth == 10
    assert search(embeddings(14), labels, depth=12).depth == 12
    assert search(embeddings(14), labels, depth=1000).depth == 14


@pytest.mark.parametrize("base", [2**24, 2**53, 2**62])
def test_labels_that_a_float_would_merge_remain_distinct(base: int):
    x, labels = embeddings(24), torch.arange(24) % 4
    assert scores_of(x, labels + base) == scores_of(x, labels)


# Ties


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e6])
def test_a_collapsed_embedding_scores_exactly_at_chance_level(scale: float):
    sizes = [2, 5, 37, 120, 137]  # an odd total, because a matrix product sums its edges in another order
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
    """Make 120 items, many of them copies of others in any class, such that tie groups extend beyond the depth."""
    generator = torch.Generator().manual_seed(3)
    x = embeddings(60, dim=65)[torch.randint(0, 60, (120,), generator=generator)]
    return x, torch.randint(0, 20, (120,), generator=generator)


@pytest.mark.parametrize("seed", range(5))
def test_a_permutation_of_the_rows_does_not_change_a_bit(seed: int):
    x, labels = tied_set()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert scores_of(x[order], labels[order], depth=40) == scores_of(x, labels, depth=40)


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 64, 10_000])
def test_the_chunk_size_does_not_change_a_bit(chunk_size: int):
    x, labels = tied_set()
    assert scores_of(x, labels, depth=40, chunk_size=chunk_size) == scores_of(x, labels, depth=40)


def test_the_size_of_the_score_tiles_does_not_change_a_bit(monkeypatch: pytest.MonkeyPatch):
    x, labels = tied_set()
    expected = scores_of(x, labels)
    monkeypatch.setattr("dmlbench.evaluation.score_tiles._MAX_SCORES", 450)
    assert scores_of(x, labels) == expected


def test_the_size_of_a_tie_group_includes_items_below_the_depth():
    query, labels = torch.tensor([[1.0, 0.0]]), torch.tensor([5, 7, 5, 7, 7, 7])
    gallery = torch.tensor([[1.0, 0.0], [0.5, 0.1], [0.5, 0.2], [0.5, 0.3], [0.5, 0.4], [0.1, 0.0]])
    ranking = rank(query, gallery, labels[:1], labels, torch.tensor([9]), torch.arange(6))
    assert ranking.depth == 2
    assert ranking.group_start.tolist() == [[0, 1]]
    assert ranking.group_size.tolist() == [[1, 4]]
    assert ranking.group_relevant.tolist() == [[1, 1]]


def test_the_best_relevant_item_is_found_below_the_depth_with_its_tie_group():
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


def test_scores_that_differ_only_by_the_rounding_of_a_sum_are_tied():
    generator = torch.Generator().manual_seed(0)
    values = embeddings(1, dim=300)[0]
    # The same numbers in other orders: their exact sums are equal, but float64 sums round differently.
    gallery = torch.stack([values[torch.randperm(300, generator=generator)] for _ in range(7)])
    query = torch.full((1, 300), 0.1)
    assert len((query.double() @ gallery.double().T).unique()) > 1
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    arguments = (query, gallery, labels[:1], labels, torch.tensor([9]), torch.arange(7))
    assert rank(*arguments).group_size.tolist() == [[7] * 3]
    assert_agrees_with_oracle(*arguments)


def test_ties_are_exact_if_only_later_rows_need_more_bits_than_a_float64_product_keeps():
    """Products of binary queries with a gallery of few bits are exact in float64; one row with many bits changes that."""
    generator = torch.Generator().manual_seed(0)
    few_bits = 1000 * torch.rand(16, 64, generator=generator) + 1000
    few_bits[0, 0] = 2.0**-19
    values = torch.randn(64, generator=generator) * 2.0 ** torch.randint(-5, 45, (64,), generator=generator)
    permuted = torch.stack([values[torch.randperm(64, generator=generator)] for _ in range(40)])
    gallery = torch.cat([few_bits, permuted])
    labels = torch.tensor([1] * 16 + [0, 0] + [1] * 38)
    assert len((permuted.double() @ torch.ones(64).double()).unique()) > 1
    ranking = rank(torch.ones(1, 64), gallery, torch.tensor([0]), labels, torch.tensor([99]), torch.arange(56))
    scores = [math.fsum(row.tolist()) for row in gallery]
    n_above = sum(score > scores[16] for score in scores)
    assert (ranking.best_above.item(), ranking.best_tied.item()) == (n_above, 40)


def test_scores_that_differ_in_the_last_digit_of_float32_are_not_tied():
    base = embeddings(1, dim=512)
    nearer = base.clone()
    nearer[0, 0] = torch.nextafter(base[0, 0], torch.copysign(torch.tensor(2.0), base[0, 0]))
    gallery, labels = torch.cat([base, nearer]), torch.tensor([0, 1])
    ranking = rank(base, gallery, torch.tensor([1]), labels, torch.tensor([9]), torch.arange(2))
    assert ranking.group_relevant.tolist() == [[1]]
    assert ranking.group_size.tolist() == [[1]]


@pytest.mark.parametrize("constant", [1.0, -30.0, 1000.0])
def test_a_constant_added_to_all_scores_does_not_change_metrics(constant: float):
    x, labels = tied_set()
    ids = torch.arange(len(x))
    one, shift = torch.ones(len(x), 1), torch.full((len(x), 1), constant)
    shifted = rank(torch.cat([x, one], 1), torch.cat([x, shift], 1), labels, labels, ids, ids)
    assert score(shifted, KS) == scores_of(x, labels)


def test_the_length_of_the_embeddings_does_not_change_metrics():
    x, labels = tied_set()
    assert scores_of(x * 2**40, labels) == scores_of(x * 2**-40, labels) == scores_of(x, labels)


# Invalid inputs


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused_and_the_message_gives_their_rows(value: float):
    x, labels, ids = embeddings(9), torch.arange(9) % 3, torch.arange(9)
    broken = x.clone()
    broken[[2, 5], 3] = value
    with pytest.raises(MethodFailure, match=r"2 of 9 query embeddings are NaN or infinite \(rows 2, 5\)"):
        rank(broken, x, labels, labels, ids, ids)
    broken[1:] = value
    with pytest.raises(MethodFailure, match=r"8 of 9 gallery embeddings .* \(rows 1, 2, 3, 4, 5, \.\.\.\)"):
        rank(x, broken, labels, labels, ids, ids)


def test_shapes_that_do_not_fit_are_refused_and_the_message_gives_both_sizes():
    x, labels, ids = embeddings(9), torch.arange(9) % 3, torch.arange(9)
    with pytest.raises(ValueError, match=r"query_labels have the shape \(8,\), but there are 9 query embeddings"):
        rank(x, x, labels[:8], labels, ids, ids)
    with pytest.raises(ValueError, match=r"gallery_ids have the shape \(7,\), but there are 9 gallery embeddings"):
        rank(x, x, labels, labels, ids, ids[:7])
    with pytest.raises(ValueError, match="queries have 7 columns but the gallery has 8"):
        rank(x[:, :7], x, labels, labels, ids, ids)
    with pytest.raises(ValueError, match="queries have 1 axes and the gallery has 2"):
        rank(x[0], x, labels, labels, ids, ids)


def test_labels_of_another_dtype_are_refused():
    x, labels, ids = embeddings(9), torch.arange(9) % 3, torch.arange(9)
    with pytest.raises(ValueError, match="gallery_labels must be int64, not float32"):
        rank(x, x, labels, labels.float(), ids, ids)


def test_an_empty_gallery_is_refused():
    x, labels, ids = embeddings(3), torch.arange(3), torch.arange(3)
    with pytest.raises(ValueError, match="the gallery is empty"):
        rank(x, x[:0], labels, labels[:0], ids, ids[:0])


# Difficult embeddings, and every way to divide the search


def kinds() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """Transformations that make 40 random embeddings difficult to search."""
    normal = torch.nn.functional.normalize
    return {
        "plain": lambda x: normal(x, dim=1),
        "duplicates": lambda x: x[(torch.arange(40) ** 2) % 13],
        "integers": lambda x: (2 * x).round(),
        "binary codes": lambda x: x.sign() / x.shape[1] ** 0.5,
        "collapsed": lambda x: x[:1].repeat(40, 1),
        "nearly collapsed": lambda x: normal(x[:1] + 1e-7 * x, dim=1),
        "an outlier": lambda x: torch.cat([1e4 * x[:1], x[1:]]),
        "half precision": lambda x: x.half().float(),
        "huge": lambda x: 1e36 * x,
        "tiny": lambda x: 1e-39 * x,
        "of every size": lambda x: x * 10.0 ** (torch.arange(40) % 60 - 30)[:, None],
    }


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    ("width", "product", "group", "margin", "chunk"),
    [
        (2**16, 2**10, None, 4, None),
        (2**16, 16, 1, 2, 7),
        (7, 7, 1, 1, 5),
        (16, 16, 4, 2, 1),
        (33, 16, 1, 1, None),
        (33, 33, 2, 1, None),
    ],
)
@pytest.mark.parametrize("kind", kinds())
def test_every_field_of_a_ranking_is_that_of_exactly_rounded_scores(
    monkeypatch, kind: str, width, product, group, margin, chunk, separate: bool
):
    monkeypatch.setattr(score_tiles, "_TILE_VECTORS", width)
    monkeypatch.setattr(score_tiles, "_PRODUCT_VECTORS", product)
    monkeypatch.setattr(knn_search, "_MARGIN", margin)
    monkeypatch.setattr(score_tile, "_MAX_GROUPS", 2**16 if chunk is None else 3)
    if group:
        monkeypatch.setattr(score_tiles, "group_size", lambda width, n_listed: group)
    generator = torch.Generator().manual_seed(len(kind))
    x = kinds()[kind](torch.randn(40, 9, generator=generator))
    labels, ids = torch.arange(40) % 7, torch.randperm(40, generator=generator)
    q, g = (torch.arange(15), torch.arange(10, 40)) if separate else (torch.arange(40), torch.arange(40))
    found = rank(x[q], x[g], labels[q], labels[g], ids[q], ids[g], depth=9, chunk_size=chunk)
    for row, query in enumerate(q.tolist()):
        others = [other for other in g.tolist() if other != query]
        scores = {other: math.fsum((x[query].double() * x[other].double()).tolist()) for other in others}
        order = sorted(others, key=lambda other: -scores[other])
        for rank_ in range(min(found.depth, len(order))):
            tied = [other for other in others if scores[other] == scores[order[rank_]]]
            hits = sum(int(labels[other] == labels[query]) for other in tied)
            start = sum(scores[other] > scores[order[rank_]] for other in others)
            here = [getattr(found, name)[row, rank_].item() for name in ("group_start", "group_size", "group_relevant")]
            assert here == [start, len(tied), hits]
        best = next(other for other in order if labels[other] == labels[query])
        tied = [other for other in others if scores[other] == scores[best]]
        assert found.best_above[row] == sum(scores[other] > scores[best] for other in others)
        assert found.best_tied[row] == len(tied)
        assert found.best_tied_relevant[row] == sum(int(labels[other] == labels[query]) for other in tied)


@pytest.mark.parametrize("kind", ["binary codes", "nearly collapsed", "plain"])
@pytest.mark.parametrize("chunk_size", [None, 40, 7])
def test_a_chunk_with_more_scores_than_fit_into_a_tile_gives_the_same_metrics(monkeypatch, kind: str, chunk_size: int | None):
    x = kinds()[kind](torch.randn(40, 9, generator=torch.Generator().manual_seed(1)))
    labels = torch.arange(40) % 7
    expected = scores_of(x, labels)
    monkeypatch.setattr(score_tiles, "_MAX_SCORES", 320)  # eight queries at a time in float32, two in float64
    assert scores_of(x, labels, chunk_size=chunk_size) == expected


CHOICES = [
    "torch.set_float32_matmul_precision('medium')",
    "torch.set_float32_matmul_precision('high')",
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.fp32_precision = 'tf32'",
]


def precisions() -> list[str]:
    return [one.fp32_precision for one in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)]


@pytest.mark.parametrize("choice", CHOICES)
def test_the_precision_that_a_user_has_chosen_for_matrix_products_changes_no_score_and_stays(choice: str) -> None:
    x = torch.nn.functional.normalize(torch.randn(200, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.arange(200) % 20
    expected = evaluate(x, labels)

    def found(rank: int) -> tuple[list[bool], bool, bool]:
        exec(choice)
        chosen = precisions()
        equal = [evaluate(x, labels) == expected for _ in range(2)]
        stays = precisions() == chosen
        make_deterministic(1)
        return equal, stays, torch.get_float32_matmul_precision() == "highest" and not torch.backends.cuda.matmul.allow_tf32

    assert forked(1, found) == [([True, True], True, True)]  # in a process of its own, because torch keeps the choice
