"""Search, side by side, and the JSON interface."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web_helpers import Browserless, encoded

from dmlbench.data.images import read_pixels
from dmlbench.evaluation.embedding_files import load_embeddings
from dmlbench.pictures.saved_embeddings import SavedEmbeddings, unit_rows
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.web.answers import Query, marked
from dmlbench.web.charts import Interval, Point, interval_chart, scatter_chart
from dmlbench.web.formulas import formula
from dmlbench.web.search import Hit, calibrate


def test_the_api_lists_every_finished_run(shared: Browserless) -> None:
    models = shared.get("/api/models").json["models"]
    assert sorted((one["loss"], one["dataset_label"][:6]) for one in models) == [
        ("arcface", "first"),
        ("contrastive", "first"),
        ("contrastive", "second"),
        ("raw_pixels", "first"),
        ("raw_pixels", "second"),
        ("untrained", "first"),
        ("untrained", "second"),
    ]
    assert all(0 <= one["metrics"]["map_at_r"] <= 1 for one in models)


@pytest.mark.parametrize("loss", ["contrastive", "arcface", "untrained"])
def test_a_search_by_test_image_returns_the_ranking_that_the_metrics_read(shared: Browserless, loss: str) -> None:
    model = shared.model(loss)
    saved = load_embeddings(model.file).in_memory()
    scores = (saved.rows.double() @ saved.rows.double().T).fill_diagonal_(-2)
    for row in range(0, len(saved), 3):
        query = int(saved.ids[row])
        found = shared.get(f"/api/search?model={model.key}&query={query}&k=5").json["results"]
        order = scores[row].argsort(descending=True)[:5]
        assert [one["id"] for one in found] == saved.ids[order].tolist()
        assert [one["relevant"] for one in found] == (saved.labels[order] == saved.labels[row]).tolist()


def test_an_image_in_the_body_of_a_request_finds_itself(shared: Browserless) -> None:
    model = shared.model("arcface")
    query = shared.queries(model)[3]
    files = shared.services.pictures.files(shared.first)
    content = (files.root / files.paths[files.index[query]]).read_bytes()
    address = f"/api/search?model={model.key}&k=3"
    found = shared.post_without_token(address, data=content, content_type="image/png").json["results"]
    assert found[0]["id"] == query
    assert found[0]["score"] == pytest.approx(1, abs=1e-5)
    assert found[0]["relevant"] is None


def test_an_uploaded_image_is_embedded_as_the_test_images_were(shared: Browserless) -> None:
    collection = shared.first
    for model in collection.models:
        embeddings = shared.services.catalogue.embeddings(model)
        pixels = shared.services.pictures.pixels(collection, int(embeddings.ids[2]))
        assert np.allclose(shared.services.models.embed(model, pixels), embeddings.rows[2], atol=1e-5)


def test_an_upload_leads_to_a_page_with_its_neighbours(shared: Browserless) -> None:
    model = shared.model("contrastive")
    sent = shared.upload(encoded(np.full((30, 20, 3), 200, np.uint8)), dataset=shared.first.key, model=model.key, k="4")
    assert sent.status_code == 303
    page = shared.get(sent.location).text
    assert "uploaded image, 20 \u00d7 30 pixels" in page
    assert page.count("Result ") == 4


def test_pages_show_queries_results_and_their_pictures(shared: Browserless) -> None:
    page = shared.get("/").text
    links = re.findall(r'class="card" href="([^"]+)"', page)
    assert len(links) == 18
    result = shared.get(links[0].replace("&amp;", "&")).text
    pictures = re.findall(r'src="(/image/[^"]+)"', result)
    assert len(pictures) == 11  # the query and ten results
    answer = shared.get(pictures[0])
    assert answer.mimetype == "image/jpeg"
    assert answer.data[:2] == b"\xff\xd8"
    assert re.search(r"<strong>\d+ of 10</strong> images are of the query", result)
    assert "✓ same class" in result
    assert "✗ other class" in result


def test_queries_are_filtered_by_class(shared: Browserless) -> None:
    page = shared.get("/?class=CLASS05").text
    assert set(re.findall(r"class0\d", page.partition("<ul")[2])) == {"class05"}
    assert "No test query is of such a class." in shared.get("/?class=zebra").text


def test_side_by_side_asks_every_loss_once(shared: Browserless) -> None:
    query = shared.queries(shared.model("arcface"))[0]
    page = shared.get(f"/compare?query={query}&k=3").text
    assert re.findall(r'">([\w ]+), seed 0</a>', page) == ["Raw pixels", "Untrained trunk", "Contrastive", "ArcFace"]
    assert page.count('class="strip"') == 4
    assert page.count("Result ") == 12


def test_all_data_sets_are_searched_at_once(shared: Browserless) -> None:
    query = shared.queries(shared.model("contrastive"))[0]
    page = shared.get(f"/?dataset=all&loss=contrastive&query={query}&from={shared.first.key}&k=12").text
    assert {"first", "second"} <= {one.strip() for one in re.findall(r"<small>(\w+)[^<]*</small>", page)}
    closeness = [float(one) for one in re.findall(r"<small>closeness (\d+) %", page)]
    assert len(closeness) == 12
    assert closeness == sorted(closeness, reverse=True)
    cards = page.split('<a class="card ')[1:]
    assert all(card.startswith("wrong") for card in cards if "<small>second" in card)
    assert len(re.findall("✓ same class|✗ other class", page)) == 12
    other = shared.second.models[0].class_name(int(shared.services.catalogue.embeddings(shared.second.models[0]).labels[0]))
    hits = [Hit(shared.second.key, 1, other, 0.5, None), Hit(shared.second.key, 2, "another", 0.5, None)]
    query_of = Query(replace(shared.first, key="split 2"), query)
    same_data = replace(shared.first, key="split 3")
    with shared.app.app_context():
        assert [one.relevant for one in marked(hits, query_of, shared.second)] == [False, False]
        hits[0] = replace(hits[0], class_name=str(query_of.class_name()))
        assert [one.relevant for one in marked(hits, query_of, same_data)] == [True, False]
    uploaded = shared.upload(encoded(np.full((24, 24, 3), 90, np.uint8)), dataset="all", loss="contrastive", k="6")
    assert shared.get(uploaded.location).text.count("Result ") == 6


@pytest.mark.parametrize(
    ("loss", "first", "second"), [("raw_pixels", "Raw pixels", "Raw pixels"), ("", "Contrastive", "Contr")]
)
def test_all_data_sets_are_searched_with_the_chosen_loss(shared: Browserless, loss: str, first: str, second: str) -> None:
    page = shared.get(f"/?dataset=all&loss={loss}&query=20&from={shared.first.key}").text
    assert re.search(f"<li>first[^<]*: {first}", page)
    assert re.search(f"<li>second[^<]*: {second}", page)
    assert [one or "" for one in re.findall(r'<option value="(\w*)" selected>', page.partition("Loss <select")[2])][:1] == (
        [loss] if loss else []
    )
    other = shared.get(f"/?dataset=all&loss=arcface&query=20&from={shared.first.key}").text
    assert re.search("<li>second[^<]*: Contrastive, seed 0 .it has no model with the chosen loss", other)


def test_closeness_is_the_share_of_images_that_are_not_closer_to_their_own_neighbour() -> None:
    generator = np.random.default_rng(0)
    rows = unit_rows(generator.normal(size=(50, 3)))
    everything = np.ones(50, bool)
    calibration = calibrate(SavedEmbeddings(rows, np.zeros(50, int), np.arange(50), everything, everything))
    scores = rows @ rows.T
    np.fill_diagonal(scores, -2)
    nearest = np.sort(scores.max(1))
    assert np.allclose(calibration.scores, nearest)
    assert calibration.closeness(float(nearest[20]) + 1e-9)[0] == np.mean(nearest <= nearest[20])
    assert calibration.closeness(2.0) > calibration.closeness(1.5) > calibration.closeness(float(nearest[-1]))


@pytest.mark.parametrize(
    ("address", "status", "text"),
    [
        ("/?k=--5", 400, "k must be a whole number from 1 to 100."),
        ("/?others=--1", 400, "others must be a whole number"),
        ("/compare?k=--5", 400, "k must be a whole number"),
        ("/?query=20&from=nowhere", 404, "There is no such data set"),
        ("/api/search?model=x&query=1", 404, "/api/models lists them"),
        ("/?k=0", 400, "k must be a whole number from 1 to 100."),
        ("/?k=101", 400, "k must be a whole number"),
        ("/?k=1e3", 400, "k must be a whole number"),
        ("/?dataset=nowhere", 404, "There is no such data set"),
        ("/?model=nothing", 404, "There is no such model"),
        ("/?query=999999", 422, "There is no test image 999999"),
        ("/?query=-1", 400, "query must be a whole number"),
        ("/?upload=abc", 422, "upload it again"),
        ("/image/abc", 404, "There is no such image"),
        ("/api/search", 404, "The parameter model is missing."),
        ("/api/search?model=x", 404, "/api/models lists them"),
        ("/compare?dataset=all", 400, "choose one"),
        ("/algorithms/..%2f..%2fetc", 404, ""),
        ("/algorithms/zebra", 404, "There is no such loss."),
        ("/algorithms?metric=zebra", 400, "No run on this data set has this metric."),
        ("/downloads/runs/x/row.json", 404, "There is no such file"),
        ("/rate/nothing", 404, "There is no such study."),
    ],
)
def test_a_wrong_parameter_is_answered_with_a_sentence(shared: Browserless, address: str, status: int, text: str) -> None:
    answer = shared.get(address)
    assert answer.status_code == status
    assert text in answer.text
    assert "Traceback" not in answer.text


def test_names_of_classes_are_escaped(shared: Browserless) -> None:
    query = shared.queries(shared.model("arcface"))[0]
    for page in ("/", f"/?query={query}", f"/compare?query={query}"):
        text = shared.get(page).text
        assert "&lt;b&gt;&amp;" in text
        assert "<b>&" not in text


def test_characters_that_reorder_text_are_shown_as_question_marks(client: Browserless) -> None:
    model = client.model("arcface")
    write_row(Path(str(model.row.folder)), Row({**model.row.columns, "loss_label": "Arc\u202eecaf\x07"}))
    client.services.catalogue._next_scan = 0.0
    for page in ("/", "/algorithms", "/algorithms/arcface", "/downloads"):
        text = client.get(page).text
        assert "Arc?ecaf?" in text, page
        assert "\u202e" not in text


def test_a_sentence_that_begins_with_a_path_keeps_it(client: Browserless) -> None:
    model = client.model("arcface")
    model.file.write_bytes(client.model("contrastive").file.read_bytes())
    assert f'alert">{model.file} cannot be drawn' in client.get(f"/?query=20&model={model.key}").text


def test_labels_of_rows_are_escaped_in_charts() -> None:
    chart = interval_chart("<t>", [Interval("<script>\"'", 0.5, 0.1)], 0, 1)
    assert "<script>" not in chart
    assert "&lt;script&gt;&#34;&#39;" in chart


def test_the_algorithms_page_has_every_loss_with_its_formula_and_runs(shared: Browserless) -> None:
    page = shared.get("/algorithms").text
    names = re.findall(r'href="/algorithms/([\w]+)"', page)
    assert {"triplet", "softtriple", "arcface", "proxy_nca"} <= set(names)
    assert [name for name in names if formula(name) is None] == []
    assert "<math" in shared.get("/algorithms/softtriple").text
    one = shared.get("/algorithms/arcface").text
    assert "arXiv:1801.07698" in one
    assert "28.6 (searched from 0 to 90)" in one
    assert f"model={shared.model('arcface').key}" in one


def test_charts_have_titles_and_axes_and_no_number_hides_another() -> None:
    points = [Point(f"Model {i}", 0.5 + 0.001 * i, 0.5, 0.1) for i in range(6)]
    chart = scatter_chart("User score against P@1", "P@1", "User score", points)
    assert "<figcaption><strong>User score against P@1" in chart
    assert ">P@1 in %</text>" in chart
    assert ">User score</text>" in chart
    numbers = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="middle" class="strong">\d', chart)
    places = np.array(numbers, dtype=float)
    assert len(places) == 6
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 100 * np.eye(6)
    assert distances.min() >= 14
    assert re.findall(r"<li>(Model \d)</li>", chart) == [point.label for point in points]
    assert "<figcaption><strong>Title" in interval_chart("Title", [Interval("a", 0.5, None)], 0, 1)


def test_charts_show_the_means_of_the_tables(shared: Browserless) -> None:
    page = shared.get(f"/algorithms?dataset={shared.first.key}&metric=recall_at_1&order=method").text
    for model in shared.first.models:
        assert f">{100 * float(str(model.row['recall_at_1'])):.1f}</td>" in page


def test_images_that_are_gone_leave_the_search_working(client: Browserless, place: Path) -> None:
    (place / "first").rename(place / "elsewhere")
    query = client.queries(client.model("arcface"))[0]
    address = f"/?query={query}&model={client.model('arcface').key}"
    page = client.get(address)
    assert page.status_code == 200
    assert "The images cannot be shown: " in page.text
    picture = re.findall(r'src="(/image/[^"]+)"', page.text)[0]
    assert client.get(picture).status_code == 200
    assert client.get(picture).headers["Cache-Control"] == "no-store"
    (place / "elsewhere").rename(place / "first")
    client.services.pictures._failures.clear()  # 5 seconds later
    assert "cannot be shown" not in client.get(address).text
    assert "immutable" in client.get(picture).headers["Cache-Control"]
    files = client.services.pictures.files(client.first)
    (files.root / files.paths[files.index[query]]).unlink()
    assert "1 of these images cannot be shown, because the files are not in first." in client.get(address).text


def test_an_image_outside_of_the_current_directory_is_not_read(client: Browserless, place: Path) -> None:
    secret = place.parent / "secret"
    (place / "first").rename(secret)
    for file in (place / "runs" / "first").rglob("images.json"):
        file.write_text(file.read_text().replace('"root": "first"', f'"root": "{secret}"'))
    query = client.queries(client.model("arcface"))[0]
    client.get(re.findall(r'src="(/image/[^"]+)"', client.get(f"/?query={query}").text)[0])
    assert "outside of the current directory" in client.get(f"/?query={query}").text.replace("&#39;", "'")
    with pytest.raises(Exception, match="outside"):
        client.services.pictures.files(client.first)


def test_the_picture_of_an_image_shows_that_image(shared: Browserless) -> None:
    collection = shared.first
    files = shared.services.pictures.files(collection)
    image_id = files.ids[0]
    shown = np.asarray(Image.open(BytesIO(shared.services.pictures.jpeg(collection, image_id))).convert("RGB"), dtype=float)
    original = read_pixels(files.root / files.paths[0]).astype(float)
    assert shown.shape == (224, 224, 3)
    assert np.abs(shown.mean((0, 1)) - original.mean((0, 1))).max() < 6
