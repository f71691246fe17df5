"""Blind rating: studies, the page of a rater, results and their export. The page of a rater does not know any model."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, abort, redirect, render_template, request, session, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from dmlbench.errors import UserError
from dmlbench.pictures.neighbours import nearest
from dmlbench.results.formatting import metric_label, spreadsheet_cell
from dmlbench.web.catalogue import Collection, Model
from dmlbench.web.charts import Interval, interval_chart, scatter_chart
from dmlbench.web.rating_scores import agreement, model_scores, standardised
from dmlbench.web.ratings import SCORES, TOP, Ratings, Study
from dmlbench.web.search_pages import picture_response
from dmlbench.web.services import chosen_collection, services, snapshot

PAGES = Blueprint("rating", __name__, url_prefix="/rate")
_RATER = "rater"
_N_QUERIES, _MOST_QUERIES, _MOST_MODELS = 20, 500, 30
# Metrics beside which the user score is shown, as far as the rows have them.
_BESIDE = ("precision_at_1", "precision_at_4", "precision_at_8", "recall_at_8", "retrieved_at_8", "map_at_r", "recall_at_1")


@PAGES.get("")
def _overview() -> str:
    collection = chosen_collection()
    defaults = {model.key for model in collection.defaults} if collection else set()
    return render_template(
        "rate.html",
        page="rate",
        studies=_database().studies(),
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
    models = [model for model in collection.models if model.key in wanted] or collection.defaults
    if len(models) > _MOST_MODELS:
        raise UserError(f"a study compares at most {_MOST_MODELS} models; {len(models)} are chosen")
    text = request.form.get("queries", str(_N_QUERIES))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_QUERIES):
        raise UserError(f"a study has 1 to {_MOST_QUERIES} queries")
    token = _database().create(
        collection.key,
        collection.label,
        {model.key: (model.label, _metrics(model)) for model in models},
        _answers(models, int(text)),
    )
    return redirect(url_for("rating._page", token=token), 303)


@PAGES.get("/<token>")
def _page(token: str) -> Any:
    study, rater = _study(token), session.get(_RATER)
    if not isinstance(rater, int):
        return render_template("rate_name.html", page="rate", study=study)
    text = request.args.get("query", "")
    if not text:  # the address names the query, so that the page can be loaded again
        position = _database().next_position(study, rater) + 1
        return redirect(url_for("rating._page", token=token, query=position), 303)
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text)):
        abort(404, "There is no such query.")
    position = int(text) - 1
    if position >= study.n_queries:
        return render_template("rate_done.html", page="rate", study=study)
    try:
        query, items = _database().items(study, rater, position)
    except LookupError:
        session.pop(_RATER)  # the database is another one
        return redirect(url_for("rating._page", token=token), 303)
    return render_template(
        "rate_page.html",
        page="rate",
        study=study,
        position=position,
        query_picture=_query_picture(study, query),
        query_class=_class_name(study, query),
        items=items,
        scores=SCORES,
    )


@PAGES.post("/<token>/name")
def _name(token: str) -> AnyResponse:
    session[_RATER] = _database().rater(request.form.get("name", ""))
    return redirect(url_for("rating._page", token=_study(token).token), 303)


@PAGES.post("/<token>/leave")
def _leave(token: str) -> AnyResponse:
    session.pop(_RATER, None)
    return redirect(url_for("rating._page", token=_study(token).token), 303)


@PAGES.post("/<token>/score")
def _score(token: str) -> Any:
    """Store one rating. The answer is sent after it is on the disk."""
    study, rater = _study(token), session.get(_RATER)
    if not isinstance(rater, int):
        abort(403, "Type your name first.")
    item, score = request.form.get("item", ""), request.form.get("score", "")
    _database().rate(item, rater, int(score) if score in map(str, SCORES) else 0)
    if request.headers.get("X-Requested-With") == "fetch":
        return {"saved": True, "item": item, "score": int(score)}
    position = request.form.get("query", "")
    kept = {"query": position} if position.isascii() and position.isdigit() else {}
    return redirect(url_for("rating._page", token=study.token, _anchor="images", **kept), 303)  # type: ignore[arg-type]


@PAGES.get("/image/<token>")
def _image(token: str) -> AnyResponse:
    rater = session.get(_RATER)
    found = _database().image_of(token, rater) if isinstance(rater, int) else services().tokens.image(token)
    found = found or services().tokens.image(token)
    collection = snapshot().collections.get(found[0]) if found else None
    if found is None or collection is None:
        abort(404, "There is no such image (any more).")
    return picture_response(services().pictures.jpeg(collection, found[1]))


@PAGES.get("/<token>/results")
def _results(token: str) -> str:
    study = _study(token)
    return render_template("rate_results.html", page="rate", study=study, charts=_charts(study), **_summary(study))


@PAGES.get("/<token>/results.json")
def _results_json(token: str) -> Any:
    """Return the part of the results page that changes with every rating, for our own script."""
    study = _study(token)
    return {"html": render_template("rate_charts.html", study=study, charts=_charts(study), **_summary(study))}


@PAGES.get("/<token>/ratings.csv")
def _export(token: str) -> AnyResponse:
    study = _study(token)
    ratings = _database().ratings(study)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["rater", "query_number", "query_id", "image_id", "score", "standardised", "rated", "model", "run_id", "rank"]
    )
    for rating, value in zip(ratings, standardised(ratings), strict=True):
        for key, rank in rating.models.items():
            first = [rating.rater, rating.position + 1, rating.query, rating.image, rating.score, f"{value:.6f}", rating.rated]
            writer.writerow([*first, spreadsheet_cell(study.models[key]), key, rank])
    response = Response(out.getvalue(), mimetype="text/csv")
    response.headers["Content-Disposition"] = f"attachment; filename=ratings-{study.id}.csv"
    return response


def _database() -> Ratings:
    return services().ratings


def _study(token: str) -> Study:
    try:
        return _database().study(token)
    except LookupError:
        abort(404, "There is no such study.")


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
    found = {name: model.row.number(name) for name in _BESIDE}
    return {name: value for name, value in found.items() if value is not None}


def _collection(study: Study) -> Collection | None:
    return snapshot().collections.get(study.collection)


def _query_picture(study: Study, query: int) -> str:
    return url_for("rating._image", token=services().tokens.name(study.collection, query, scope="blind"))


def _class_name(study: Study, query: int) -> str | None:
    collection = _collection(study)
    if collection is None:
        return None
    model = collection.models[0]
    embeddings = services().catalogue.embeddings(model)
    index = embeddings.index.get(query)
    return None if index is None else model.class_name(int(embeddings.labels[index]))


def _summary(study: Study) -> dict[str, Any]:
    ratings = _database().ratings(study)
    scores = model_scores(ratings)
    order = sorted(study.models, key=lambda key: -scores[key].mean if key in scores else 1.0)
    beside = [name for name in _BESIDE if all(name in study.metrics[key] for key in study.models)][:5]
    return {
        "n_ratings": len(ratings),
        "n_raters": len({rating.rater for rating in ratings}),
        "alpha": agreement(ratings),
        "rows": [(study.models[key], scores.get(key), study.metrics[key]) for key in order],
        "beside": {name: metric_label(name) for name in beside},
    }


def _charts(study: Study) -> list[Markup]:
    """Return charts of the user scores, and of user scores against metrics."""
    scores = model_scores(_database().ratings(study))
    rated = sorted((key for key in study.models if key in scores), key=lambda key: -scores[key].mean)
    if not rated:
        return []
    intervals = [Interval(study.models[key], scores[key].mean, scores[key].half_width) for key in rated]
    charts = [interval_chart("User score (0 to 1), mean and 95 % interval over queries", intervals, 0, 1)]
    for name in ("precision_at_1", "precision_at_8", "recall_at_8", "map_at_r"):
        if all(name in study.metrics[key] for key in rated):
            points = [(study.models[key], study.metrics[key][name], scores[key].mean, scores[key].half_width) for key in rated]
            charts.append(scatter_chart(f"User score against {metric_label(name)}", metric_label(name), "User score", points))
    return charts
