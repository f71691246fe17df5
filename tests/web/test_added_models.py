"""Models that were trained elsewhere: safetensors and a configuration, never a pickle."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from web_helpers import Browserless

from dmlbench.results.row_files import read_row
from dmlbench.web.app import create_app
from dmlbench.web.services import Settings


@pytest.fixture
def client(place: Path) -> Iterator[Browserless]:
    """A client of an application that accepts models."""
    app = create_app(Settings([Path("runs")], Path("runs/.web"), add_models=Path("runs/added")))
    yield Browserless(app)
    app.extensions["dmlbench"].decoder.close()


def files_of(client: Browserless, loss: str = "arcface") -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Row and weights of a run."""
    folder = client.model(loss).row.folder
    assert folder is not None
    state = torch.load(folder / "model.pt", weights_only=True)["model"]
    return json.loads((folder / "row.json").read_text()), {name: one.contiguous() for name, one in state.items()}


def add(client: Browserless, row: Any, weights: bytes, name: str = "Theirs <b>", **options: Any) -> str:
    """Upload a model; return what became of it."""
    content = row if isinstance(row, bytes) else json.dumps(row).encode()
    data = {"name": name, "config": (io.BytesIO(content), "../row.json"), "weights": (io.BytesIO(weights), "/etc/x")}
    sent = client.post("/models", data, content_type="multipart/form-data", **options)
    if sent.status_code != 303:
        return f"{sent.status_code}: {sent.text}"
    while (state := client.services.additions[0]["state"]) == "in progress":
        time.sleep(0.02)
    return state


def test_an_added_model_is_evaluated_and_offered(client: Browserless, place: Path) -> None:
    row, weights = files_of(client)
    original = client.model("arcface").row
    row |= {"map_at_r": 0.999, "loss_make_scale": 1e9, "loss_label": "liar"}  # nothing of it is believed
    state = add(client, row, save(weights))
    assert state.startswith("added as run "), state
    added = read_row(place / "runs/added" / state.split()[-1] / "row.json")
    for metric in ("recall_at_1", "map_at_r", "r_precision"):
        assert added[metric] == original[metric]
    assert added["loss_label"] == "Theirs <b>"
    assert added["fingerprint"] != original["fingerprint"]
    assert "loss_make_scale" not in added.columns
    client.services.catalogue._next_scan = 0.0
    key = str(added["run_id"])
    assert key in {one["model"] for one in client.get("/api/models").json["models"]}
    found = client.get(f"/api/search?model={key}&query=20&k=5").json["results"]
    before = client.get(f"/api/search?model={original['run_id']}&query=20&k=5").json["results"]
    assert [one["id"] for one in found] == [one["id"] for one in before]
    pixels = client.services.pictures.pixels(client.first, 20)
    image = client.services.models.embed(client.services.catalogue.snapshot().models[key], pixels)
    assert image.shape == (8,)
    assert "Theirs &lt;b&gt;" in client.get("/").text
    again = {name: weights[name].clone() for name in reversed(list(weights))}
    assert add(client, row | {"seed": 5}, save(again, {"note": "copy"})) == "refused: this model has been added already"
    assert key in {model.key for model in client.first.defaults}
    assert client.first.default.key != key
    assert "Theirs &lt;b&gt;" in client.get("/compare?query=20&k=1").text
    assert f'value="{key}" checked' in client.get("/rate").text


def test_what_is_no_safetensors_file_of_the_run_s_model_is_refused(client: Browserless, place: Path) -> None:
    row, weights = files_of(client)
    pickled = (Path(str(client.model("arcface").row.folder)) / "model.pt").read_bytes()
    name = next(iter(weights))
    cases = [
        pickled,
        b"",
        b"x" * 100,
        save({"other": torch.zeros(2)}),
        save({**weights, name: torch.zeros(3)}),
        save(weights)[:-5],
    ]
    for content in cases:
        assert add(client, row, content).startswith("refused: ")
    assert not list((place / "runs/added").rglob("*.json"))
    assert not list((place / "runs/added").glob("*"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trunk_make_target": "os.system"}, "trunk_make_target"),
        ({"trunk_make_channels": "/etc/passwd"}, "trunk_make_channels"),
        ({"dataset_source": '{"root": "/etc"}'}, "outside of the current directory"),
        ({"protocol_embedding_dim": 10**9}, "at most"),
        ({"protocol": "external"}, "no model"),
        ({"split_digest": "0" * 16}, "are not those of the run"),
        ({"trunk": "../../x"}, "there is no trunk"),
    ],
)
def test_a_forged_configuration_is_refused(client: Browserless, changes: dict[str, Any], reason: str) -> None:
    row, weights = files_of(client)
    assert reason in add(client, {**row, **changes}, save(weights)).replace("&#39;", "'")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\x80\x04."])
def test_a_configuration_that_is_no_row_is_refused(client: Browserless, content: bytes) -> None:
    assert add(client, content, b"x").startswith("422")


def test_other_machines_cannot_add_models(client: Browserless) -> None:
    assert add(client, {}, b"x", environ_base={"REMOTE_ADDR": "192.168.0.9"}).startswith("403")
    client.services.settings.__dict__["add_models"] = None
    assert add(client, {}, b"x").startswith("403")
    assert "from the machine of the server only" in client.get("/models").text
