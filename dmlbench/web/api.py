"""The JSON interface for scripts, and the page that documents it."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, abort, render_template, request

from dmlbench.web.answers import Query, find, requested_query
from dmlbench.web.search import MAX_K, Hit
from dmlbench.web.search_pages import picture
from dmlbench.web.services import chosen_k, named_model, services, snapshot
from dmlbench.web.snapshot import Model

PAGES = Blueprint("api", __name__)
_VERSION = 1


@PAGES.get("/api")
def _documentation() -> str:
    example = next(iter(snapshot().models), "RUN_ID")
    return render_template("api.html", page="api", example=example, max_k=MAX_K, host=request.host)


@PAGES.get("/api/models")
def _models() -> Any:
    """Return every model, with its data set, method and metrics."""
    found = snapshot()
    return {
        "version": _VERSION,
        "models": [
            {
                "model": model.key,
                "dataset": found.collection_of(model).key,
                "dataset_label": found.collection_of(model).label,
                "method": model.method,
                "loss": model.row["loss"],
                "seed": model.row.seed,
                "fingerprint": model.group,
                "embedding_dim": model.row.get("embedding_dim"),
                "metrics": {name: model.row.number(name) for name in model.row.metrics},
            }
            for model in found.models.values()
        ],
    }


@PAGES.route("/api/search", methods=["GET", "POST"])
def _search() -> Any:
    """Search with a test image (GET), or with the image in the body (POST)."""
    if not (key := request.args.get("model", "")):
        abort(404, "The parameter model is missing.")
    model = named_model(key)
    collection, k = snapshot().collection_of(model), chosen_k()
    if request.method == "POST":
        query = Query(upload=services().uploads.decoded(request.get_data()))
    else:
        named = requested_query(collection)
        if named is None:
            abort(400, "The parameter query is missing: the id of a test image.")
        query = named
    began = time.perf_counter()
    hits = find(query, collection, model, k)
    milliseconds = 1000 * (time.perf_counter() - began)
    return {
        "version": _VERSION,
        "model": model.key,
        "dataset": collection.key,
        "query_class": query.class_name(),
        "milliseconds": round(milliseconds, 3),
        "results": [_result(rank, hit, model) for rank, hit in enumerate(hits, 1)],
    }


def _result(rank: int, hit: Hit, model: Model) -> dict[str, Any]:
    return {
        "rank": rank,
        "id": hit.image_id,
        "score": hit.score,
        "class": hit.class_name,
        "relevant": hit.relevant,
        "image": picture(hit.collection, hit.image_id),
    }
