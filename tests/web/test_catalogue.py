"""Runs appear, change and vanish while the server runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rows_factory import make_row
from web_helpers import Browserless, encoded, noise

from dmlbench.cli.serve import make_parser, make_server
from dmlbench.results.row import Row
from dmlbench.results.row_files import write_row
from dmlbench.web.catalogue import Catalogue
from dmlbench.web.least_used import LeastUsed
from dmlbench.web.snapshot import Snapshot


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for runs at every request."""
    monkeypatch.setattr(Catalogue, "snapshot", lambda self: _scanned(self))


searched_at_once = pytest.mark.usefixtures("no_pause")


def _scanned(found: Catalogue) -> Snapshot:
    found._snapshot = found._scan()
    return found._snapshot


PAGES = ("/", "/?query=20", "/?dataset=all&query=20&from={}", "/compare?query=20", "/rate", "/algorithms", "/downloads")


def keys(client: Browserless) -> set[str]:
    return {one["model"] for one in client.get("/api/models").json["models"]}


@searched_at_once
def test_a_run_directory_that_appears_is_offered_without_a_restart(client: Browserless, place: Path) -> None:
    [run] = (place / "runs/first").rglob("arcface/*/row.json")
    shutil.move(run.parent, place / "away")
    before = keys(client)
    shutil.move(place / "away", run.parent)
    [new] = keys(client) - before
    assert new == run.parent.name
    assert client.get(f"/?model={new}&query=20&dataset={client.first.key}").status_code == 200


def test_a_run_that_vanishes_leaves_no_error(client: Browserless, place: Path) -> None:
    model = client.model("arcface")
    query = client.queries(model)[0]
    address = f"/api/search?model={model.key}&query={query}"
    assert client.get(address).status_code == 200
    shutil.rmtree(str(model.row.folder))  # within the second in which runs are not searched for
    for page in PAGES:
        assert client.get(page.format(client.first.key)).status_code == 200, page
    assert client.get(address).status_code == 404


def test_a_run_whose_embeddings_vanish_between_two_searches_is_answered_with_a_sentence(client: Browserless) -> None:
    model = client.model("arcface")
    model.file.unlink()
    answer = client.get(f"/?query={client.queries(client.model('contrastive'))[0]}&model={model.key}")
    assert answer.status_code in (200, 404, 422)
    refused = client.get("/api/search?model=" + model.key)
    assert refused.status_code == 422
    assert refused.json == {"error": "It has no embeddings.safetensors."}


@searched_at_once
def test_a_run_whose_row_is_copied_before_its_embeddings_is_offered_once_they_are_there(
    client: Browserless, place: Path
) -> None:
    model = client.model("arcface")
    content = model.file.read_bytes()
    model.file.write_bytes(content[:-100])
    broken = client.get(f"/api/search?model={model.key}&query=20")
    assert broken.status_code == 422
    model.file.unlink()
    assert model.key not in keys(client)
    model.file.write_bytes(content)
    assert model.key in keys(client)
    assert client.get(f"/api/search?model={model.key}&query=20").status_code == 200


def test_embeddings_that_are_not_those_of_the_row_are_refused(client: Browserless) -> None:
    model, other = client.model("arcface"), client.model("contrastive")
    model.file.write_bytes(other.file.read_bytes())
    answer = client.get(f"/api/search?model={model.key}&query=20")
    assert answer.status_code == 422
    assert "the content is not what the run wrote" in answer.json["error"]
    assert model.key not in keys(client)
    assert "the content is not what the run wrote" in client.get("/downloads").text


@pytest.mark.parametrize("damage", ["truncated", "replaced"])
def test_one_damaged_run_leaves_the_others_of_its_data_set_usable(client: Browserless, damage: str) -> None:
    models = client.first.models
    broken, last = models[0], models[-1]  # the first one is that of classes and queries
    content = broken.file.read_bytes()
    broken.file.write_bytes(content[:-100] if damage == "truncated" else last.file.read_bytes())
    for page in (*PAGES, f"/downloads/images/{client.first.key}.csv"):
        answer = client.get(page.format(client.first.key))
        assert answer.status_code == 200, page
    chosen = [model.key for model in client.first.defaults]
    assert broken.key not in chosen
    sent = client.post("/rate/studies", {"dataset": client.first.key, "models": chosen, "queries": "2"})
    assert sent.status_code == 303
    assert str(broken.row.folder) in client.get("/downloads").text.partition("skipped</summary>")[2]
    broken.file.write_bytes(content)
    client.services.catalogue._next_scan = 0.0
    assert broken.key in keys(client)


def test_a_run_that_is_replaced_in_its_place_is_searched_with_its_new_model_and_its_new_metrics(client: Browserless) -> None:
    old, new = client.model("arcface"), client.model("contrastive")
    image = encoded(noise(24, 24))
    address = "/api/search?k=5&model="

    def search(model: str) -> list[tuple[int, float]]:
        found = client.post_without_token(address + model, data=image, content_type="image/png").json["results"]
        return [(one["id"], one["score"]) for one in found]

    before, table = search(old.key), f"/downloads/tables/{client.first.key}/csv"
    assert "0.98765" not in client.get(table).text
    for name in ("model.pt", "embeddings.safetensors"):
        shutil.copy(Path(str(new.row.folder)) / name, str(old.row.folder))
    same = {name: new.row[name] for name in ("model_sha256", "embeddings_sha256")}
    write_row(Path(str(old.row.folder)), Row({**old.row.columns, **same, "map_at_r": 0.98765}))
    client.services.catalogue._next_scan = 0.0
    assert search(old.key) == search(new.key) != before
    assert "0.98765" in client.get(table).text


def test_of_two_runs_with_the_same_method_and_seed_one_is_skipped_with_a_reason(client: Browserless, place: Path) -> None:
    original = Path(str(client.model("arcface").row.folder))
    for name, changes in (("twin", {"run_id": "twin"}), ("copy", {})):
        shutil.copytree(original, place / "runs" / name)
        write_row(place / "runs" / name, Row({**client.model("arcface").row.columns, **changes}))
    client.services.catalogue._next_scan = 0.0
    assert len(client.first.models) == 4
    assert client.get("/downloads").text.count("another run has the same method, protocol and seed") == 2


def test_runs_that_a_name_selects_later_are_offered(place: Path) -> None:
    folder = next((place / "runs/first").rglob("contrastive"))
    shutil.move(folder, place / "away")
    server = make_server(make_parser().parse(["contrastive", "--port", "0"]))
    try:
        client = Browserless(server.app)  # type: ignore[arg-type]
        assert len(keys(client)) == 1
        shutil.move(place / "away", folder)
        client.services.catalogue._next_scan = 0.0
        assert len(keys(client)) == 2
        shutil.rmtree(place / "runs/first")
        shutil.rmtree(place / "runs/second")
        client.services.catalogue._next_scan = 0.0
        assert keys(client) == set()
    finally:
        server.server_close()


def test_a_huge_file_is_not_hashed(client: Browserless) -> None:
    file = Path(str(client.model("arcface").row.folder)) / "history.jsonl"
    with file.open("r+b") as stream:
        stream.truncate(40 * 2**30)
    page = client.get("/downloads").text
    assert "too large to be computed" in page
    assert f"{40 * 2**30:,}" in page


@searched_at_once
def test_files_that_are_no_rows_are_skipped_with_a_reason(client: Browserless, place: Path) -> None:
    (place / "runs/bad").mkdir()
    (place / "runs/bad/row.json").write_text("{}")
    folder = place / "runs/bad2"
    write_row(folder, make_row(run_id="<script>"))
    assert len(keys(client)) == 7
    page = client.get("/downloads").text
    assert "a row needs the column" in page
    assert "its run id contains other characters" in page


@searched_at_once
def test_without_any_run_every_page_says_so(client: Browserless, place: Path) -> None:
    shutil.rmtree(place / "runs/first")
    shutil.rmtree(place / "runs/second")
    assert "No finished run yet" in client.get("/").text
    assert "No finished run yet" in client.get("/compare").text
    assert "There is no finished run" in client.get("/rate").text
    assert "There is no finished run" in client.get("/downloads").text
    assert client.get("/algorithms").status_code == 200
    assert client.get("/api/models").json["models"] == []


def test_embeddings_are_mapped_and_not_copied(client: Browserless) -> None:
    import numpy as np

    rows = client.services.catalogue.embeddings(client.model("arcface")).rows
    assert isinstance(rows, np.memmap)
    assert rows.mode == "r"


def test_the_least_used_model_leaves(client: Browserless) -> None:
    models = client.services.models
    models._loaded.capacity = 1
    pixels = client.services.pictures.pixels(client.first, client.queries(client.model("arcface"))[0])
    for model in client.first.models:
        models.embed(model, pixels)
        assert len(models) == 1


def test_the_least_used_value_leaves_first_and_a_value_is_made_once() -> None:
    store: LeastUsed[str, int] = LeastUsed(5, size=lambda value: value)
    made: list[str] = []

    def make(name: str, value: int) -> int:
        made.append(name)
        return value

    store.get("a", lambda: make("a", 2))
    store.get("b", lambda: make("b", 2))
    store.get("a", lambda: make("a", 2))
    store.get("c", lambda: make("c", 2))
    assert [store.find(name) for name in "abc"] == [2, None, 2]
    store.get("d", lambda: make("d", 9))  # alone larger than the capacity
    assert [store.find(name) for name in "abcd"] == [None, None, None, 9]
    assert made == ["a", "b", "c", "d"]
