"""Blind rating: studies, the page of a rater, results and their export. The page of a rater does not know any model."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response as AnyResponse

from dmlbench.errors import UserError
from dmlbench.pictures.neighbours import nearest
from dmlbench.web.rating_records import SCORES, TOP, Study
from dmlbench.web.ratings import Ratings
from dmlbench.web.results_pages import (
    BEGUN,
    BESIDE,
    MOST_REMEMBERED,
    RATER,
    SEEN,
    current_rater,
    find_study,
    has_finished,
    results_key,
)
from dmlbench.web.search_pages import picture_response
from dmlbench.web.services import chosen_collection, parse_whole, services, snapshot
from dmlbench.web.snapshot import Model

PAGES = Blueprint("rating", __name__, url_prefix="/rate")
_GONE = "the runs of this study are no longer there, so its images cannot be shown"
_N_QUERIES, _MOST_QUERIES, _MOST_MODELS = 20, 500, 30


@PAGES.get("")
def _overview() -> str:
    collection = chosen_collection()
    defaults = {model.key for model in collection.defaults} if collection else set()
    studies = _database().studies()
    return render_template(
        "rate.html",
        page="rate",
        studies=[(study, _results_address(study)) for study in studies],
        collections=snapshot().collections,
        collection=collection,
        defaults=defaults,
        n_queries=_N_QUERIES,
        most_queries=_MOST_QUERIES,
    )


@PAGES.post("/studies")
def _create() -> AnyResponse:
    collection = snapshot().collections.get(request.form.get("dataset", ""))
    if collection is None:
        abort(404, "There is no such data set (any more).")
    wanted = set(request.form.getlist("models"))
    models = [model for model in collection.models if model.key in wanted]
    if not models or len(models) < len(wanted):
        raise UserError("choose models of this data set" if models else "choose at least one model of this data set")
    if len(models) > _MOST_MODELS:
        raise UserError(f"a study compares at most {_MOST_MODELS} models; {len(models)} are chosen")
    n_queries = parse_whole(request.form.get("queries", str(_N_QUERIES)), 1, _MOST_QUERIES)
    if n_queries is None:
        raise UserError(f"a study has 1 to {_MOST_QUERIES} queries")
    token = _database().create(
        collection.key,
        collection.label,
        {model.key: (model.label, _metrics(model)) for model in models},
        _answers(models, n_queries),
    )
    session[BEGUN] = [token, *session.get(BEGUN, [])][:MOST_REMEMBERED]
    return redirect(url_for("rating._begun", token=token, key=results_key(token)), 303)


@PAGES.get("/<token>/begun")
def _begun(token: str) -> str:
    """Show the address for raters, and that of the results to whoever knows it already."""
    return render_template("rate_begun.html", page="rate", study=find_study(token), key=request.args.get("key", ""))


@PAGES.get("/<token>")
def _page(token: str) -> Any:
    study, rater = find_study(token), current_rater()
    if rater is None:
        return render_template("rate_name.html", page="rate", study=study)
    text = request.args.get("query", "")
    if not text:  # the address names the query, so that the page can be loaded again
        position = _database().next_position(study, rater) + 1
        return redirect(url_for("rating._page", token=token, query=position), 303)
    number = parse_whole(text, 1, 10**9)
    if number is None:
        abort(404, "There is no such query.")
    position = number - 1
    if position >= study.n_queries:
        return render_template("rate_done.html", page="rate", study=study, finished=has_finished(study))
    try:
        query, items = _database().items(study, rater, position)
    except LookupError:
        session.pop(RATER)  # the database is another one
        return redirect(url_for("rating._page", token=token), 303)
    collection = snapshot().collections.get(study.collection)
    images = [query, *(item.image for item in items)]
    return render_template(
        "rate_page.html",
        page="rate",
        study=study,
        position=position,
        query_picture=_query_picture(study, query),
        query_class=_class_name(study, query),
        items=items,
        scores=SCORES,
        problem=services().pictures.problem(collection, images) if collection else _GONE,
    )


@PAGES.post("/<token>/name")
def _name(token: str) -> AnyResponse:
    session[RATER] = _database().rater(request.form.get("name", ""))
    return redirect(url_for("rating._page", token=find_study(token).token), 303)


@PAGES.post("/<token>/leave")
def _leave(token: str) -> AnyResponse:
    session.pop(RATER, None)
    return redirect(url_for("rating._page", token=find_study(token).token), 303)


@PAGES.post("/<token>/score")
def _score(token: str) -> Any:
    """Store one rating. The answer is sent after it is on the disk."""
    study, rater = find_study(token), current_rater()
    if rater is None:
        abort(403, "Type your name first.")
    if study.token in session.get(SEEN, []):
        raise UserError("you have seen the results, so your ratings cannot be changed")
    item, score = request.form.get("item", ""), request.form.get("score", "")
    _refuse_unseen(item, rater)
    _database().rate(item, rater, int(score) if score in map(str, SCORES) else 0)
    if request.headers.get("X-Requested-With") == "fetch":
        return {"saved": True, "item": item, "score": int(score)}
    position = parse_whole(request.form.get("query", ""), 1, 10**9)
    kept = {} if position is None else {"query": position}
    return redirect(url_for("rating._page", token=study.token, _anchor="images", **kept), 303)  # type: ignore[arg-type]


@PAGES.get("/image/<token>")
def _image(token: str) -> AnyResponse:
    rater = current_rater()
    found = (_database().images_of(token, rater) if rater is not None else None) or services().tokens.image(token)
    collection = snapshot().collections.get(found[0]) if found else None
    if found is None or collection is None:
        abort(404, "There is no such image (any more).")
    return picture_response(collection, found[1])


def _database() -> Ratings:
    return services().ratings


def _answers(models: list[Model], n_queries: int) -> list[tuple[int, Mapping[str, list[int]]]]:
    """Draw queries, and search for the first images of every model."""
    embeddings = {model.key: services().catalogue.embeddings(model) for model in models}
    known = [set(map(int, one.ids[one.is_query])) for one in embeddings.values()]
    queries = sorted(set.intersection(*known))
    if not queries:
        raise UserError("the models have no query in common")
    drawn = secrets.SystemRandom().sample(queries, min(n_queries, len(queries)))
    return [(query, {key: nearest(one, query, TOP).ids.tolist() for key, one in embeddings.items()}) for query in drawn]


def _metrics(model: Model) -> dict[str, float]:
    found = {name: model.row.number(name) for name in BESIDE}
    return {name: value for name, value in found.items() if value is not None}


def _refuse_unseen(item: str, rater: int) -> None:
    """Refuse a rating of an image that is not shown, or whose query is not."""
    found = _database().images_of(item, rater)
    if found is None:
        return
    key, *images = found
    collection = snapshot().collections.get(key)
    if collection is None:
        raise UserError(_GONE)
    for image in images:
        services().pictures.jpeg(collection, image)


def _results_address(study: Study) -> str | None:
    """Return the address of the results for the overview; None while the rater of this browser must not see them."""
    if has_finished(study):
        return url_for("results._results", token=study.token)
    if current_rater() is None and study.token in session.get(BEGUN, []):
        return url_for("results._results", token=study.token, key=results_key(study.token))
    return None


def _query_picture(study: Study, query: int) -> str:
    return url_for("rating._image", token=services().tokens.name(study.collection, query, scope="blind"))


def _class_name(study: Study, query: int) -> str | None:
    collection = snapshot().collections.get(study.collection)
    if collection is None:
        return None
    model = collection.models[0]
    embeddings = services().catalogue.embeddings(model)
    index = embeddings.index.get(query)
    return None if index is None else model.class_name(int(embeddings.labels[index]))
