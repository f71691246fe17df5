"""Choice of queries: by score, at random, by name, and by the disagreement of methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dmlbench.errors import UserError
from dmlbench.pictures.queries import Query, Wanted, choose, most_disputed, parse_wanted
from dmlbench.pictures.saved_embeddings import SavedEmbeddings
from dmlbench.results.query_scores import QueryScores
from dmlbench.results.run_images import RunImages

N = 12
IDS = np.arange(N) + 50
EMBEDDINGS = SavedEmbeddings(np.ones((N, 2), np.float32), np.arange(N) // 2, IDS, np.arange(N) != 11, np.ones(N, bool))
VALUES = np.array([0.5, 0.1, 0.9, 0.0, 0.3, 1.0, 0.7, 0.2, 0.6, 0.8])
SCORES = QueryScores(IDS[:10], np.arange(10) // 2, VALUES)  # 60 has no relevant item, and 61 is no query
IMAGES = RunImages(Path("photos"), IDS.tolist(), [f"class{i // 2}/{i % 4}.png" for i in range(N)])


def chosen(text: str, scores: QueryScores | None = SCORES, images: RunImages | None = IMAGES, seed: int = 0) -> list[Query]:
    return choose(parse_wanted(text), EMBEDDINGS, scores, images, seed)


def test_worst_median_and_best_are_those_with_the_lowest_middle_and_highest_score() -> None:
    assert chosen("worst:3") == [Query(53, "worst", 0.0), Query(51, "worst", 0.1), Query(57, "worst", 0.2)]
    assert chosen("best") == [Query(55, "best", 1.0), Query(52, "best", 0.9)]
    assert {query.id for query in chosen("median")} == {50, 58}


def test_no_query_is_chosen_twice_and_fewer_are_returned_if_there_are_fewer() -> None:
    found = chosen("worst:8,best:8,random:8")
    assert sorted(query.id for query in found) == IDS[:10].tolist()
    assert [query.kind for query in found] == ["worst"] * 8 + ["best"] * 2


def test_equal_scores_are_chosen_at_random_and_the_seed_repeats_the_choice() -> None:
    equal = SCORES._replace(values=np.zeros(10))
    picked = [tuple(query.id for query in chosen("worst:3", equal, seed=seed)) for seed in range(6)]
    assert len(set(picked)) > 3
    assert picked[0] == tuple(query.id for query in chosen("worst:3", equal, seed=0))


def test_random_queries_are_among_the_evaluated_ones_whatever_the_order_of_the_file() -> None:
    found = chosen("random:4", seed=2)
    assert {query.id for query in found} <= set(IDS[:10].tolist())
    order = np.random.default_rng(0).permutation(10)
    shuffled = QueryScores(*(values[order] for values in SCORES))
    assert chosen("random:4", shuffled, seed=2) == found
    assert chosen("random:4", seed=3) != found


def test_without_scores_only_random_and_named_queries_are_possible() -> None:
    assert [query.score for query in chosen("55,random:2", None)] == [None, None, None]
    with pytest.raises(
        UserError, match=r"^the scores of the queries \(per_query.safetensors\) are missing .* --queries random:4$"
    ):
        chosen("median", None)


@pytest.mark.parametrize("name", ["53", "class1/3.png", "photos/class1/3.png", "./photos/class1/3.png", "3.png,"])
def test_a_query_is_named_by_its_id_its_path_or_the_end_of_its_path(name: str) -> None:
    images = RunImages(IMAGES.root, IMAGES.ids, ["a/b.png"] * 3 + ["class1/3.png"] + ["c/d.png"] * 8)
    assert chosen(name, images=images) == [Query(53, "named", 0.0)]


def test_a_named_query_without_a_relevant_item_has_no_score() -> None:
    assert chosen("60") == [Query(60, "named", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "clas1/3.png",
            r"^--queries clas1/3.png is neither worst, median, best, random nor a query.*; did you mean 'class1/3.png'\?$",
        ),
        ("61", r"^--queries 61 is neither .* nor a query of the run; an image of a query is class0/0.png$"),
        ("class5/3.png", r"^--queries class5/3.png is neither .* nor a query of the run"),
        ("1.png", r"^--queries 1.png names 3 images, such as class0/1.png and class2/1.png; name one of them$"),
        ("wurst", r"^--queries wurst is neither worst, median, best, random nor a query of the run"),
    ],
)
def test_an_unknown_or_ambiguous_query_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        chosen(text)


def test_without_paths_a_query_can_only_be_named_by_its_id() -> None:
    with pytest.raises(
        UserError, match=r"^--queries a.png is not the id of a query \(such as 50\), and the paths .* not known$"
    ):
        chosen("a.png", images=None)


def test_a_request_is_parsed() -> None:
    assert parse_wanted(" worst:12, best ,a b.png") == [Wanted("worst", 12), Wanted("best", 2), Wanted("named", 1, "a b.png")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worst:0", r"^--queries is 'worst:0', but '0' is not a number of queries, such as worst:3$"),
        ("best:x", r"'x' is not a number of queries, such as best:3$"),
        ("worst:39,best", r"requests 41 queries; a picture has at most 40$"),
        (" , ", r"^--queries needs a value, such as --queries worst:2"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_wanted(text)


def test_disputed_queries_are_those_whose_scores_differ_most_between_methods() -> None:
    other = SCORES._replace(values=VALUES.copy())
    other.values[[2, 7]] = [0.1, 0.6]
    found = most_disputed([SCORES, other], 2)
    assert [(query.id, query.kind) for query in found] == [(52, "disputed"), (57, "disputed")]
    assert [query.score for query in found] == [pytest.approx(0.5), pytest.approx(0.4)]
    order = np.random.default_rng(1).permutation(10)
    assert most_disputed([QueryScores(*(values[order] for values in other)), SCORES], 2) == found


def test_disputed_queries_need_two_methods_on_the_same_queries() -> None:
    with pytest.raises(UserError, match=r"between at least two methods$"):
        most_disputed([SCORES], 2)
    with pytest.raises(UserError, match=r"^the runs were not evaluated on the same queries"):
        most_disputed([SCORES, SCORES._replace(ids=IDS[:10] + 1)], 2)
