"""Runs appear, change and vanish while the server runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rows_factory import make_row
from web_helpers import Browserless

from dmlbench.results.row_files import write_row
from dmlbench.web import catalogue
from dmlbench.web.catalogue import Catalogue
from dmlbench.web.least_used import LeastUsed


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search for runs at every request."""
    monkeypatch.setattr(catalogue, "_SCAN_SECONDS", 0.0)
    monkeypatch.setattr(Catalogue, "snapshot", lambda self: _scanned(self))


def _scanned(found: Catalogue) -> catalogue.Snapshot:
    found._snapshot = found._scan()
    return found._snapshot


def keys(client: Browserless) -> set[str]:
    return {one["model"] for one in client.get("/api/models").json["models"]}


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
    shutil.rmtree(str(model.row.folder))
    assert client.get(address).status_code == 404
    for page in ("/", f"/?query={query}", f"/compare?query={query}", "/rate", "/algorithms", "/downloads"):
        assert client.get(page).status_code == 200


def test_a_run_whose_embeddings_vanish_between_two_searches_is_answered_with_a_sentence(client: Browserless) -> None:
    model = client.model("arcface")
    model.file.unlink()
    answer = client.get(f"/?query={client.queries(client.model('contrastive'))[0]}&model={model.key}")
    assert answer.status_code in (200, 404, 422)
    assert client.get("/api/search?model=" + model.key).status_code == 404


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


def test_files_that_are_no_rows_are_skipped_with_a_reason(client: Browserless, place: Path) -> None:
    (place / "runs/bad").mkdir()
    (place / "runs/bad/row.json").write_text("{}")
    folder = place / "runs/bad2"
    write_row(folder, make_row(run_id="<script>"))
    assert len(keys(client)) == 7
    page = client.get("/downloads").text
    assert "a row needs the column" in page
    assert "its run id contains other characters" in page


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
