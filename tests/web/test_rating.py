"""Blind rating: nothing tells the model, nothing that was confirmed is lost, and scores are those of the formulas."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import sqlite3
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm, rankdata
from web_helpers import Browserless

from dmlbench.errors import UserError
from dmlbench.pictures.neighbours import nearest
from dmlbench.web.rating_records import SCORES, Rating, Study
from dmlbench.web.rating_scores import agreement, krippendorff_alpha, model_scores, standardised
from dmlbench.web.ratings import Ratings
from dmlbench.web.results_pages import results_key

ITEM = re.compile(r'name="item" value="([^"]+)"')


def begin(client: Browserless, queries: int = 3, **fields: object) -> str:
    """Begin a study; return its address."""
    chosen = [model.key for model in client.first.defaults]
    sent = client.post("/rate/studies", {"dataset": client.first.key, "queries": str(queries), "models": chosen, **fields})
    assert sent.status_code == 303, sent.text
    return sent.location.partition("/begun")[0]


def results(client: Browserless, study: str, page: str = "results") -> str:
    """Return a page of results, as whoever began the study reads it."""
    with client.app.app_context():
        key = results_key(study.rpartition("/")[2])
    answer = client.get(f"{study}/{page}?key={key}")
    assert answer.status_code == 200
    return answer.text


def enter(client: Browserless, study: str, name: str = "Ann") -> str:
    """Type a name; return the page of the first query."""
    assert client.post(f"{study}/name", {"name": name}).status_code == 303
    return client.get(study).text


def rate(client: Browserless, study: str, item: str, score: object) -> int:
    """Send one rating as our script does; return the status."""
    return client.post(f"{study}/score", {"item": item, "score": str(score)}, headers={"X-Requested-With": "fetch"}).status_code


def database(client: Browserless) -> Ratings:
    return client.services.ratings


def stored(client: Browserless) -> Study:
    return database(client).studies()[0]


def test_a_page_shows_the_first_three_images_of_every_model_each_once(client: Browserless) -> None:
    study = begin(client)
    page = enter(client, study)
    query, items = database(client).items(stored(client), 1, 0)
    expected = {
        int(one)
        for model in client.first.defaults
        for one in nearest(client.services.catalogue.embeddings(model), query, 3).ids
    }
    assert {item.image for item in items} == expected
    assert len(items) == len(expected) == len(ITEM.findall(page))


def test_nothing_that_a_rater_reaches_by_links_tells_the_model(client: Browserless) -> None:
    """All pages depend on the sets of images only: with the models' answers exchanged, they are equal up to random names."""
    study = begin(client, 4)
    first = enter(client, study, "Ann")
    forbidden = [
        text for model in client.first.models for text in (model.key, model.method, str(model.row["loss"]), model.group)
    ]
    forbidden += [file.as_posix() for file in Path("first").rglob("*.png")]
    assert not [text for text in forbidden if text.lower() in first.lower()]
    assert rate(client, study, ITEM.findall(first)[0], 5) == 200
    before = reached(client, study)
    assert {study, "/rate", f"{study}?query=4", f"{study}?query=5"} <= before.keys()
    closed = [f"{study}/{page}" for page in ("results", "results.json", "ratings.csv")]
    assert [client.get(page).status_code for page in closed] == [403] * 3
    db = sqlite3.connect("runs/.web/ratings.sqlite3")
    keys = [row[0] for row in db.execute("SELECT DISTINCT model FROM answers")]
    db.executemany("UPDATE answers SET model = 'x' || model WHERE model = ?", [(key,) for key in keys])
    exchanged = zip([f"x{key}" for key in keys], keys[1:] + keys[:1], strict=True)
    db.executemany("UPDATE answers SET model = ? WHERE model = ?", [(new, old) for old, new in exchanged])
    db.commit()
    db.close()
    assert reached(client, study) == before


def reached(client: Browserless, start: str) -> dict[str, str]:
    """All pages about ratings to which links lead, without their random names."""
    pages: dict[str, str] = {}
    left = [start, f"{start}?query=1"]
    while left:
        address = left.pop()
        if address not in pages:
            text = client.get(address).text
            pages[address] = neutral(text)
            found = re.findall(r'(?:href|data-live)="(/rate[^"]*)"', text)
            left += [one.replace("&amp;", "&") for one in found if not one.startswith("/rate/image")]
    return pages


def test_results_are_shown_after_the_last_rating_and_at_the_address_of_the_study(client: Browserless) -> None:
    chosen = client.model("arcface").key
    begun = client.post("/rate/studies", {"dataset": client.first.key, "queries": "1", "models": chosen}).location
    study = begun.partition("/begun")[0]
    [address] = set(re.findall(rf'href="({study}/results[?]key=[^"]+)"', client.get(begun).text))
    assert address in client.get("/rate").text  # nobody rates in this browser yet
    items = ITEM.findall(enter(client, study))
    for item in items[:-1]:
        rate(client, study, item, 4)
    assert f"{study}/results" not in client.get("/rate").text
    assert client.get(f"{study}/results").status_code == 403
    assert "Some images are not rated" in client.get(f"{study}?query=2").text
    assert client.get(address).status_code == 200
    assert client.get(f"{study}/results?key=wrong").status_code == 403
    assert rate(client, study, items[-1], 4) == 200
    assert f'href="{study}/results"' in client.get(f"{study}?query=2").text
    assert f'href="{study}/results"' in client.get("/rate").text
    assert client.get(f"{study}/results").status_code == 200
    assert rate(client, study, items[-1], 1) == 422  # the results of another rating would tell its model


def test_an_image_that_is_not_shown_is_not_rated(client: Browserless, place: Path) -> None:
    study = begin(client, 1)
    item = ITEM.findall(enter(client, study))[0]
    for folder in (place / "first").iterdir():
        folder.rename(place / folder.name)
    page = client.get(f"{study}?query=1").text
    assert "cannot be shown, because the files are not in first" in page
    missing = client.get(f"/rate/image/{item}")
    assert missing.headers["Cache-Control"] == "no-store"
    assert rate(client, study, item, 3) == 422
    for folder in place.glob("class*"):
        folder.rename(place / "first" / folder.name)
    assert "cannot be shown" not in client.get(f"{study}?query=1").text
    assert client.get(f"/rate/image/{item}").data != missing.data
    assert rate(client, study, item, 3) == 200


def test_a_database_that_is_none_is_reported_in_a_sentence(client: Browserless, place: Path) -> None:
    (place / "runs/.web/ratings.sqlite3").write_bytes(b"garbage" * 1000)
    answer = client.get("/rate")
    assert answer.status_code == 422
    assert "ratings.sqlite3 cannot be used as the database of ratings: file is not a database" in answer.text


def neutral(page: str) -> str:
    """A page without its random names; images are sorted because their order is random too."""
    return re.sub(r'(value|href|src|content)="[^"]*[\w-]{16,}[^"]*"', r"\1", page)


def test_the_order_of_images_is_random_and_stays_the_same_for_a_rater(
    client: Browserless, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(0)
    monkeypatch.setattr("dmlbench.web.ratings.secrets.SystemRandom", lambda: generator)
    study = begin(client, 1)
    orders = []
    for number in range(12):
        page = enter(client, study, f"rater {number}")
        assert ITEM.findall(client.get(study).text) == ITEM.findall(page)
        orders.append(tuple(item.image for item in database(client).items(stored(client), number + 1, 0)[1]))
    assert len(set(orders)) > 6
    assert len({order[0] for order in orders}) > 2  # no image is always first, whichever rank models give it


def test_images_have_random_names_equal_sizes_and_no_metadata(client: Browserless) -> None:
    study = begin(client, 1)
    tokens = set()
    for name in ("Ann", "Ben"):
        page = enter(client, study, name)
        addresses = re.findall(r'src="(/rate/image/[\w-]+)"', page)
        tokens |= set(addresses)
        for address in addresses:
            answer = client.get(address)
            picture = Image.open(io.BytesIO(answer.data))
            assert picture.size == (224, 224)
            assert not picture.getexif()
            assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            headers = {name for name, _ in answer.headers}
            assert not headers & {"Content-Disposition", "ETag", "Last-Modified"}
    images = len(ITEM.findall(page))
    assert len(tokens) == 2 * images + 1  # another name for each rater, and the query


def test_a_rater_does_not_see_the_images_of_another(client: Browserless) -> None:
    study = begin(client, 1)
    own = ITEM.findall(enter(client, study, "Ann"))[0]
    enter(client, study, "Ben")
    assert client.get(f"/rate/image/{own}").status_code == 404
    assert rate(client, study, own, 3) == 422


def test_a_rater_takes_up_where_he_left(client: Browserless) -> None:
    study = begin(client, 3)
    first = enter(client, study, "Ann  Smith")
    for item in ITEM.findall(first):
        assert rate(client, study, item, 4) == 200
    second = client.get(study).text
    assert "Query 2 of 3" in second
    assert rate(client, study, ITEM.findall(second)[0], 2) == 200
    client.post(f"{study}/leave")
    assert "Type a name" in client.get(study).text
    again = enter(client, study, "ann smith")
    assert "Query 2 of 3" in again
    assert ITEM.findall(again) == ITEM.findall(second)
    assert again.count('aria-pressed="true"') == 1
    assert client.get(f"{study}?query=1").text.count('aria-pressed="true"') == len(ITEM.findall(first))
    for query in (2, 3):
        for item in ITEM.findall(client.get(f"{study}?query={query}").text):
            rate(client, study, item, 1)
    assert "You have seen all 3 queries" in client.get(study).text


def test_two_raters_at_once_and_repeated_submissions_leave_one_rating_per_image(client: Browserless) -> None:
    study = begin(client, 5)
    base, one = database(client), stored(client)
    raters = [base.rater(name) for name in ("Ann", "Ben")]
    work = [
        (item.token, rater, 1 + (item.image + rater) % 5)
        for rater in raters
        for position in range(5)
        for item in base.items(one, rater, position)[1]
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: base.rate(*job), [*work, *work, *work]))
    ratings = base.ratings(one)
    assert len(ratings) == len(work)
    assert all(rating.score == 1 + (rating.image + rating.rater) % 5 for rating in ratings)
    page = results(client, study)
    assert f"<strong>{len(work)}</strong> ratings by <strong>2</strong> raters" in page


def test_a_second_rating_of_an_image_replaces_the_first(client: Browserless) -> None:
    study = begin(client, 1)
    item = ITEM.findall(enter(client, study))[0]
    assert [rate(client, study, item, score) for score in (2, 2, 5)] == [200, 200, 200]
    assert [rating.score for rating in database(client).ratings(stored(client))] == [5]


@pytest.mark.parametrize("score", ["0", "6", "", "x", "-1", "1e0", "3.5", "٣"])
def test_a_score_that_is_none_of_five_is_refused(client: Browserless, score: str) -> None:
    study = begin(client, 1)
    item = ITEM.findall(enter(client, study))[0]
    assert rate(client, study, item, score) == 422
    assert database(client).ratings(stored(client)) == []


def test_a_study_keeps_its_results_when_its_runs_vanish(client: Browserless, place: Path) -> None:
    study = begin(client, 2)
    item = ITEM.findall(enter(client, study))[0]
    rate(client, study, item, 5)
    (place / "runs/first").rename(place / "gone")
    client.services.catalogue._next_scan = 0.0
    assert "<svg" in results(client, study)
    assert client.get(study).status_code == 200
    assert client.get(f"/rate/image/{item}").status_code == 404


def test_chosen_models_only_are_compared(client: Browserless) -> None:
    begin(client, 1, models=[client.model("arcface").key, client.model("contrastive").key])
    assert set(stored(client).models) == {client.model("arcface").key, client.model("contrastive").key}


@pytest.mark.parametrize("queries", ["0", "501", "x", "-3", "", "9" * 5000])
def test_a_wrong_number_of_queries_is_refused(shared: Browserless, queries: str) -> None:
    fields = {"dataset": shared.first.key, "models": shared.model("arcface").key, "queries": queries}
    assert "1 to 500 queries" in shared.post("/rate/studies", fields).text


def test_a_study_without_models_or_with_unknown_ones_is_refused(shared: Browserless) -> None:
    for models in ([], ["unknown"], [shared.model("arcface").key, shared.second.models[0].key]):
        sent = shared.post("/rate/studies", {"dataset": shared.first.key, "queries": "2", "models": models})
        assert sent.status_code == 422
        assert "Choose" in sent.text


def test_a_thousand_ratings_are_summarised_charted_and_exported(client: Browserless) -> None:
    study = begin(client, 20)
    base, one = database(client), stored(client)
    generator = np.random.default_rng(0)
    given = 0
    for name in map(str, range(20)):
        rater = base.rater(name)
        for position in range(one.n_queries):
            for item in base.items(one, rater, position)[1]:
                if given < 1000:
                    base.rate(item.token, rater, int(generator.integers(1, 6)))
                    given += 1
    assert given == 1000
    page = results(client, study)
    assert "<strong>1000</strong> ratings" in page
    assert page.count("<svg") >= 3
    assert json.loads(results(client, study, "results.json"))["html"].count("<svg") == page.count("<svg")
    rows = list(csv.DictReader(io.StringIO(results(client, study, "ratings.csv"))))
    assert len({(row["rater"], row["query_number"], row["image_id"]) for row in rows}) == 1000
    scores = model_scores(base.ratings(one))
    for key, score in scores.items():
        own = [row for row in rows if row["run_id"] == key]
        queries = {row["query_number"] for row in own}
        means = [
            statistics.fmean(float(row["standardised"]) for row in own if row["query_number"] == query) for query in queries
        ]
        assert score.mean == pytest.approx(statistics.fmean(means), abs=1e-5)
        assert score.n_ratings == len(own)


def make_rating(rater: int, position: int, image: int, score: int, *models: str) -> Rating:
    return Rating(rater, position, 0, image, score, "", dict.fromkeys(models, 1))


def test_ratings_are_standardised_per_rater() -> None:
    ratings = [make_rating(1, 0, i, score) for i, score in enumerate([1, 2, 3, 4, 5])]
    ratings += [make_rating(2, 0, i, score) for i, score in enumerate([3, 3, 4, 4, 5])]
    ratings += [make_rating(3, 0, i, 5) for i in range(5)]
    values = standardised(ratings)
    for rater, scores in ((0, [1, 2, 3, 4, 5]), (1, [3, 3, 4, 4, 5])):
        expected = norm.cdf((np.array(scores) - np.mean(scores)) / np.std(scores))
        assert np.allclose(values[5 * rater : 5 * rater + 5], expected)
    assert values[10:] == [0.5] * 5
    assert all(0 < value < 1 for value in values)


def test_a_model_whose_images_are_liked_has_the_higher_score() -> None:
    generator = np.random.default_rng(0)
    ratings = []
    for rater in range(4):
        for position in range(15):
            ratings.append(make_rating(rater, position, 1, int(generator.integers(3, 6)), "good", "both"))
            ratings.append(make_rating(rater, position, 2, int(generator.integers(1, 4)), "bad", "both"))
    scores = model_scores(ratings)
    assert scores["good"].mean > scores["both"].mean > scores["bad"].mean
    assert scores["good"].half_width is not None
    assert scores["good"].mean - scores["good"].half_width > scores["bad"].mean
    assert scores["both"].n_ratings == 2 * scores["good"].n_ratings
    assert scores["both"].n_queries == 15


# Krippendorff, Computing Krippendorff's alpha-reliability, 2011, section C: four observers, twelve units, missing values.
PUBLISHED = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)


def as_units(table: Sequence[Sequence[int | None]]) -> dict[object, list[int]]:
    return {unit: [row[unit] for row in table if row[unit] is not None] for unit in range(len(table[0]))}  # type: ignore[misc]


def test_the_agreement_is_that_of_the_published_example() -> None:
    units = as_units(PUBLISHED)
    assert krippendorff_alpha(units, "nominal", SCORES) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(units, "ordinal", SCORES) == pytest.approx(0.815, abs=5e-4)
    assert krippendorff_alpha(units, "interval", SCORES) == pytest.approx(0.849, abs=5e-4)


def pairwise_alpha(units: Mapping[object, Sequence[int]], level: str) -> float:
    """Alpha as one minus observed over expected disagreement, from all pairs of values, without coincidences."""
    paired = [values for values in units.values() if len(values) > 1]
    everything = [value for values in paired for value in values]
    ranks = dict(zip(everything, rankdata(everything), strict=True))  # the mean rank of equal values
    scale = ranks if level == "ordinal" else {value: float(value) for value in everything}

    def difference(a: int, b: int) -> float:
        return float(a != b) if level == "nominal" else (scale[a] - scale[b]) ** 2

    observed = sum(sum(difference(a, b) for a, b in permutations(values, 2)) / (len(values) - 1) for values in paired) / len(
        everything
    )
    expected = sum(difference(a, b) for a, b in permutations(everything, 2)) / (len(everything) * (len(everything) - 1))
    return 1 - observed / expected


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_the_agreement_equals_a_formula_over_all_pairs(level: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        table = [[int(one) if one else None for one in generator.integers(0, 6, 12)] for _ in range(4)]
        units = as_units(table)
        assert krippendorff_alpha(units, level, SCORES) == pytest.approx(pairwise_alpha(units, level), abs=1e-12)  # type: ignore[arg-type]


def test_the_agreement_of_one_rater_or_of_equal_ratings_is_not_known() -> None:
    assert agreement([make_rating(1, 0, i, i % 5 + 1) for i in range(9)]) is None
    assert agreement([make_rating(rater, 0, i, 3) for rater in (1, 2) for i in range(9)]) is None
    assert agreement([make_rating(rater, 0, i, i % 5 + 1) for rater in (1, 2) for i in range(9)]) == pytest.approx(1)


def test_a_name_is_needed(client: Browserless) -> None:
    with pytest.raises(UserError, match="type a name"):
        database(client).rater("  ")
    with pytest.raises(UserError, match="type a name"):
        database(client).rater("x" * 61)
