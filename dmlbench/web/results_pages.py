"""Results of blind rating: scores, charts and their export.

They tell which model returned an image, so a rater sees them after his last rating only. Whoever begins a study gets an address
with a key, at which they are always shown. No page of a rater leads to it.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
from typing import Any

from flask import Blueprint, Response, abort, current_app, render_template, request, session
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from dmlbench.results.formatting import metric_label, spreadsheet_cell
from dmlbench.web.charts import Interval, Point, interval_chart, scatter_chart
from dmlbench.web.rating_records import Study
from dmlbench.web.rating_scores import agreement, model_scores, standardised
from dmlbench.web.services import services

PAGES = Blueprint("results", __name__, url_prefix="/rate")
# In the session: number of the rater, and tokens of the studies that were begun, and whose results a rater has seen.
RATER, BEGUN, SEEN = "rater", "begun", "seen"
MOST_REMEMBERED = 20
# Metrics beside which the user score is shown, as far as the rows have them.
BESIDE = ("precision_at_1", "precision_at_4", "precision_at_8", "recall_at_8", "retrieved_at_8", "map_at_r", "recall_at_1")


@PAGES.get("/<token>/results")
def _results(token: str) -> str:
    study = _readable_study(token)
    context = {"key": request.args.get("key"), "charts": _charts(study), **_summary(study)}
    return render_template("rate_results.html", page="rate", study=study, **context)


@PAGES.get("/<token>/results.json")
def _results_json(token: str) -> Any:
    """Return the part of the results page that changes with every rating, for our own script."""
    study = _readable_study(token)
    return {"html": render_template("rate_charts.html", study=study, charts=_charts(study), **_summary(study))}


@PAGES.get("/<token>/ratings.csv")
def _export(token: str) -> AnyResponse:
    study = _readable_study(token)
    ratings = services().ratings.ratings(study)
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


def find_study(token: str) -> Study:
    """Return the study that an address names.

    Args:
        token: Its random name.
    """
    try:
        return services().ratings.study(token)
    except LookupError:
        abort(404, "There is no such study.")


def current_rater() -> int | None:
    """Return the number of the rater who has typed a name in this browser."""
    rater = session.get(RATER)
    return rater if isinstance(rater, int) else None


def has_finished(study: Study) -> bool:
    """Return whether the rater of this browser has rated all images of a study.

    Args:
        study: The study.
    """
    rater = current_rater()
    return rater is not None and services().ratings.next_position(study, rater) == study.n_queries


def results_key(study: str) -> str:
    """Return the key with which the results of a study are always shown.

    Args:
        study: Token of the study.
    """
    secret = current_app.secret_key
    assert isinstance(secret, bytes)
    return hmac.new(secret, f"results of {study}".encode(), hashlib.sha256).hexdigest()[:32]


def _readable_study(token: str) -> Study:
    study = find_study(token)
    if hmac.compare_digest(request.args.get("key", "").encode(), results_key(token).encode()):
        return study
    if not has_finished(study):
        abort(403, "Results are shown after your last rating, and at the address that was shown when the study began.")
    if token not in session.get(SEEN, []):
        session[SEEN] = [token, *session.get(SEEN, [])][:MOST_REMEMBERED]
    return study


def _summary(study: Study) -> dict[str, Any]:
    ratings = services().ratings.ratings(study)
    scores = model_scores(ratings)
    order = sorted(study.models, key=lambda key: -scores[key].mean if key in scores else 1.0)
    beside = [name for name in BESIDE if all(name in study.metrics[key] for key in study.models)][:5]
    return {
        "n_ratings": len(ratings),
        "n_raters": len({rating.rater for rating in ratings}),
        "alpha": agreement(ratings),
        "rows": [(study.models[key], scores.get(key), study.metrics[key]) for key in order],
        "beside": {name: metric_label(name) for name in beside},
    }


def _charts(study: Study) -> list[Markup]:
    """Return charts of the user scores, and of user scores against metrics."""
    scores = model_scores(services().ratings.ratings(study))
    rated = sorted((key for key in study.models if key in scores), key=lambda key: -scores[key].mean)
    if not rated:
        return []
    intervals = [Interval(study.models[key], scores[key].mean, scores[key].half_width) for key in rated]
    charts = [interval_chart("User score (0 to 1), mean and 95 % interval over queries", intervals, 0, 1)]
    for name in ("precision_at_1", "precision_at_8", "recall_at_8", "map_at_r"):
        if all(name in study.metrics[key] for key in rated):
            points = [
                Point(study.models[key], study.metrics[key][name], scores[key].mean, scores[key].half_width) for key in rated
            ]
            charts.append(scatter_chart(f"User score against {metric_label(name)}", metric_label(name), "User score", points))
    return charts
