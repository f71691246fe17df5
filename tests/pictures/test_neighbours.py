"""The nearest images of a query: exact scores, exact order, ties, the query itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dmlbench.errors import UserError
from dmlbench.evaluation.exact_dot import exact_dots
from dmlbench.evaluation.ranking import rank
from dmlbench.pictures.neighbours import exact_scores, nearest
from dmlbench.pictures.saved_embeddings import SavedEmbeddings, unit_rows


def embeddings(rows: np.ndarray, labels: np.ndarray | None = None, separate: bool = False) -> SavedEmbeddings:
    """Embeddings with ids that are no indices; with `separate`, the first half are queries and the rest is the gallery."""
    n = len(rows)
    is_query = np.arange(n) < n // 2 if separate else np.ones(n, dtype=bool)
    labels = np.arange(n) % 4 if labels is None else labels
    is_gallery = ~is_query if separate else is_query
    return SavedEmbeddings(rows.astype(np.float32), labels.astype(np.int64), np.arange(n) * 3 + 7, is_query, is_gallery)


def brute_force(of: SavedEmbeddings, query_id: int, k: int) -> tuple[list[int], list[float]]:
    """Ids and scores by sorting every gallery image; sums of fractions are exact."""
    own = of.ids.tolist().index(query_id)
    scored = [
        (-math.fsum(float(a) * float(b) for a, b in zip(of.rows[own], row, strict=True)), int(image_id))
        for row, image_id, shown in zip(of.rows, of.ids, of.is_gallery, strict=True)
        if shown and image_id != query_id
    ]
    scored.sort()
    return [image_id for _, image_id in scored[:k]], [-score for score, _ in scored[:k]]


GENERATOR = np.random.default_rng(3)
CASES = {
    "unit rows": unit_rows(GENERATOR.normal(size=(60, 16))),
    "near ties": unit_rows(1 + 1e-6 * GENERATOR.normal(size=(60, 24))),
    "binary codes": GENERATOR.integers(0, 2, (60, 6)),
    "all equal": np.ones((60, 5)),
    "one dimension": GENERATOR.normal(size=(60, 1)),
    "tiny numbers": 1e-24 * GENERATOR.normal(size=(60, 8)),
    "huge numbers": 1e25 * GENERATOR.normal(size=(60, 8)),
}


@pytest.mark.parametrize("separate", [False, True], ids=["all images", "separate gallery"])
@pytest.mark.parametrize("rows", CASES.values(), ids=CASES.keys())
def test_the_order_is_that_of_exact_scores_and_ties_are_in_the_order_of_the_ids(rows: np.ndarray, separate: bool) -> None:
    of = embeddings(rows, separate=separate)
    for query_id in of.ids[of.is_query][::7].tolist():
        found = nearest(of, query_id, 5)
        ids, scores = brute_force(of, query_id, 5)
        assert found.ids.tolist() == ids
        assert found.scores.tolist() == scores
        assert query_id not in ids


def test_scores_equal_the_exact_inner_products_of_the_metrics() -> None:
    rows = CASES["near ties"]
    expected = exact_dots(torch.from_numpy(rows), torch.from_numpy(rows[:1]).expand(len(rows), -1))
    assert exact_scores(rows, rows[0]).tolist() == expected.tolist()


def test_relevance_and_r_agree_with_the_ranking_of_the_metrics() -> None:
    of = embeddings(CASES["unit rows"])
    tensors = [torch.from_numpy(of.rows), torch.from_numpy(of.labels), torch.from_numpy(of.ids)]
    ranking = rank(tensors[0], tensors[0], tensors[1], tensors[1], tensors[2], tensors[2], depth=8)
    for index, query_id in enumerate(of.ids.tolist()):
        found = nearest(of, query_id, 8)
        assert found.relevant.astype(int).tolist() == ranking.group_relevant[index, :8].tolist()
        assert found.n_relevant == int(ranking.n_relevant[index])


def test_a_tie_across_the_last_rank_is_counted() -> None:
    assert nearest(embeddings(CASES["all equal"]), 7, 5).n_tied == 60 - 1 - 5
    assert nearest(embeddings(CASES["unit rows"]), 7, 5).n_tied == 0


def test_a_large_collapsed_embedding_is_searched_fast() -> None:
    found = nearest(embeddings(np.ones((20_000, 64))), 7, 5)
    assert found.ids.tolist() == [10, 13, 16, 19, 22]
    assert found.n_tied == 20_000 - 1 - 5


def test_a_gallery_that_is_smaller_than_k_is_returned_completely() -> None:
    found = nearest(embeddings(CASES["unit rows"][:3]), 7, 5)
    assert sorted(found.ids.tolist()) == [10, 13]
    assert found.n_tied == 0


def test_numbers_that_are_not_finite_are_refused() -> None:
    rows = CASES["unit rows"].copy()
    rows[4, 0] = np.nan
    with pytest.raises(UserError, match=r"^the embeddings contain numbers that are not finite$"):
        nearest(embeddings(rows), 7, 5)
