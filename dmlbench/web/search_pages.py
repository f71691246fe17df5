"""Pages to search, to upload an image, and to compare the answers of all models side by side."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from dmlbench.errors import UserError
from dmlbench.web.answers import Query, find, find_in_all, requested_query
from dmlbench.web.catalogue import RunChangedError
from dmlbench.web.pictures import MissingImageError, missing_jpeg
from dmlbench.web.search import Hit
from dmlbench.web.services import ALL, chosen_collection, chosen_k, chosen_model, services, snapshot, whole_number
from dmlbench.web.snapshot import Collection, Model

PAGES = Blueprint("search", __name__)
_N_PICKED = 18  # test queries to choose from on one page
_MOST_SIDE_BY_SIDE = 60
_YEAR = 365 * 24 * 3600


@PAGES.get("/")
def _search() -> str:
    collection = chosen_collection()
    everything = request.args.get("dataset") == ALL
    if collection is None and not everything:
        return render_template("empty.html", paths=services().catalogue.paths, skipped=snapshot().skipped)
    k, query = chosen_k(), requested_query(collection)
    loss = request.args.get("loss", "")
    context: dict[str, Any] = {"collection": collection, "k": k, "query": query, "loss": loss, "page": "search"}
    if collection is not None:
        context["model"] = chosen_model(collection)
    else:
        context["losses"] = _losses()
    if query is None:
        source = collection or _largest()
        return render_template("search.html", **context, **_picked(source), **_common())
    began = time.perf_counter()
    if collection is not None:
        found = find(query, collection, context["model"], k)
    else:
        found, context["used"], context["problems"] = find_in_all(query, loss, k)
        context["searched"] = [one for one, model in context["used"] if not loss or model.row["loss"] == loss]
    milliseconds = 1000 * (time.perf_counter() - began)
    return render_template(
        "search.html",
        **context,
        hits=_shown(found),
        milliseconds=milliseconds,
        query_class=query.class_name(),
        query_picture=_picture_of(query),
        images_problems=_images_problems(query, found),
        **_common(),
    )


@PAGES.get("/compare")
def _compare() -> str:
    collection = chosen_collection()
    if collection is None:
        if request.args.get("dataset") == ALL:
            abort(400, "Side by side compares the models of one data set; choose one.")
        return render_template("empty.html", paths=services().catalogue.paths, skipped=snapshot().skipped)
    k, query = chosen_k(5), requested_query(collection)
    every = request.args.get("models") == "every"
    models = collection.defaults
    if every:
        models = list(dict.fromkeys((*models, *collection.models)))[:_MOST_SIDE_BY_SIDE]
    context: dict[str, Any] = {"collection": collection, "k": k, "query": query, "every": every, "page": "compare"}
    if query is None:
        return render_template("compare.html", **context, **_picked(collection), **_common())
    answers = [_answer(query, collection, model, k) for model in models]
    return render_template(
        "compare.html",
        **context,
        answers=answers,
        n_left_out=len(collection.models) - len(models),
        query_class=query.class_name(),
        query_picture=_picture_of(query),
        images_problems=_images_problems(query, [one["hit"] for answer in answers for one in answer["hits"]]),
        **_common(),
    )


@PAGES.post("/upload")
def _upload() -> Any:
    file = request.files.get("file")
    if file is None or not file.filename:
        raise UserError("no file was sent; choose an image")
    upload = services().uploads.add(file.stream.read())
    target = "search._compare" if request.form.get("page") == "compare" else "search._search"
    kept = {key: request.form[key] for key in ("dataset", "model", "k", "loss", "models") if request.form.get(key)}
    address = url_for(target, upload=upload.token, **kept)  # type: ignore[arg-type]
    if request.headers.get("X-Requested-With") == "fetch":
        return {"address": address}
    return redirect(address, 303)


@PAGES.get("/image/<token>")
def _image(token: str) -> AnyResponse:
    found = services().tokens.image(token)
    collection = snapshot().collections.get(found[0]) if found else None
    if found is None or collection is None:
        abort(404, "There is no such image (any more).")
    return picture_response(collection, found[1])


@PAGES.get("/uploaded/<token>")
def _uploaded(token: str) -> AnyResponse:
    return _kept(services().uploads.get(token).picture)


def picture_response(collection: Collection, image_id: int) -> AnyResponse:
    """Return a picture, which the browser keeps; or a square with the reason why there is none, which it does not keep.

    Args:
        collection: Data set.
        image_id: Id of the image.
    """
    try:
        return _kept(services().pictures.jpeg(collection, image_id))
    except MissingImageError as error:
        return Response(missing_jpeg(error.problem), mimetype="image/jpeg")


def _kept(content: bytes) -> AnyResponse:
    response = Response(content, mimetype="image/jpeg")
    response.headers["Cache-Control"] = f"private, max-age={_YEAR}, immutable"
    return response


def picture(collection: str, image_id: int) -> str:
    """Return the address of a picture.

    Args:
        collection: Key of the data set.
        image_id: Id of the image.
    """
    return url_for("search._image", token=services().tokens.name(collection, image_id))


def _common() -> dict[str, Any]:
    return {"collections": snapshot().collections}


def _shown(hits: list[Hit]) -> list[dict[str, Any]]:
    labels = {key: one.label for key, one in snapshot().collections.items()}
    return [{"hit": hit, "picture": picture(hit.collection, hit.image_id), "dataset": labels[hit.collection]} for hit in hits]


def _answer(query: Query, collection: Collection, model: Model, k: int) -> dict[str, Any]:
    try:
        return {"model": model, "hits": _shown(find(query, collection, model, k))}
    except RunChangedError:
        raise
    except UserError as error:
        return {"model": model, "hits": [], "problem": str(error)}


def _picture_of(query: Query) -> str:
    if query.upload is not None:
        return url_for("search._uploaded", token=query.upload.token)
    assert query.collection is not None
    return picture(query.collection.key, query.image_id)


def _images_problems(query: Query, hits: list[Hit]) -> list[str]:
    """Return a sentence for each data set with images of the page that cannot be shown."""
    ids: dict[str, list[int]] = {query.collection.key: [query.image_id]} if query.collection else {}
    for hit in hits:
        ids.setdefault(hit.collection, []).append(hit.image_id)
    collections, pictures = snapshot().collections, services().pictures
    found = (pictures.problem(collections[key], shown) for key, shown in ids.items() if key in collections)
    return [problem for problem in found if problem]


def _picked(collection: Collection) -> dict[str, Any]:
    """Return some test queries to choose from: random ones, or those of the classes whose name contains a text."""
    number, text = whole_number("others", 0, 0, 10**9), request.args.get("class", "").strip().casefold()
    model = collection.models[0]
    embeddings = services().catalogue.embeddings(model)
    queries = np.flatnonzero(embeddings.is_query)
    if text:
        labels = np.unique(embeddings.labels[queries])
        matching = [label for label in labels if text in model.class_name(int(label)).casefold()]
        queries = queries[np.isin(embeddings.labels[queries], matching)]
    chosen = np.random.default_rng(number).permutation(queries)[:_N_PICKED]
    ids = embeddings.ids[chosen].tolist()
    picked = [
        {"id": image_id, "class_name": model.class_name(int(label)), "picture": picture(collection.key, image_id)}
        for image_id, label in zip(ids, embeddings.labels[chosen], strict=True)
    ]
    problem = services().pictures.problem(collection, ids)
    return {"picked": picked, "picked_from": collection, "images_problems": [problem] if problem else []}


def _largest() -> Collection:
    found = max(snapshot().collections.values(), key=lambda one: len(one.models), default=None)
    if found is None:
        abort(404, "There is no finished run.")
    return found


def _losses() -> dict[str, str]:
    models = sorted(snapshot().models.values(), key=lambda model: model.order)
    return {str(one.row["loss"]): str(one.row.get("loss_label") or one.row["loss"]) for one in models}
