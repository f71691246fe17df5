"""From ratings to one score per model with an interval, and the agreement between raters. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dmlbench.tables.confidence import t_interval
from dmlbench.web.rating_records import SCORES, Rating

Level = Literal["ordinal", "interval", "nominal"]


@dataclass(frozen=True)
class ModelScore:
    """The user score of one model.

    Args:
        mean: Mean over the queries that were rated, in [0, 1]; 0.5 is the average image of a rater.
        half_width: Half width of its 95 % interval over queries; None for one query.
        n_queries: Number of queries with a rating.
        n_ratings: Number of ratings that count for the model.
        raw: Mean of the ratings as given, 1 to 5.
    """

    mean: float
    half_width: float | None
    n_queries: int
    n_ratings: int
    raw: float


def standardised(ratings: Sequence[Rating]) -> list[float]:
    """Standardise ratings per rater, and map them to (0, 1) by the distribution function of the normal distribution.

    A rater who gives high scores to everything, or uses a small range only, then counts as much as any other.

    Args:
        ratings: Ratings of one study.

    Returns:
        One number per rating; 0.5 for all ratings of a rater who gave the same score to everything.
    """
    scores: dict[int, list[int]] = {}
    for rating in ratings:
        scores.setdefault(rating.rater, []).append(rating.score)
    means = {rater: statistics.fmean(values) for rater, values in scores.items()}
    spreads = {rater: statistics.pstdev(values) for rater, values in scores.items()}
    return [
        0.5 * (1 + math.erf((one.score - means[one.rater]) / spreads[one.rater] / math.sqrt(2))) if spreads[one.rater] else 0.5
        for one in ratings
    ]


def model_scores(ratings: Sequence[Rating]) -> dict[str, ModelScore]:
    """Compute the user score of each model: the mean over queries of the mean over raters and returned images.

    Args:
        ratings: Ratings of one study.

    Returns:
        Key of each model that has a rating to its score.
    """
    by_query: dict[str, dict[int, list[float]]] = {}
    raw: dict[str, list[int]] = {}
    for rating, value in zip(ratings, standardised(ratings), strict=True):
        for model in rating.models:
            by_query.setdefault(model, {}).setdefault(rating.position, []).append(value)
            raw.setdefault(model, []).append(rating.score)
    scores = {}
    for model, queries in by_query.items():
        mean, half_width = t_interval([statistics.fmean(values) for values in queries.values()])
        scores[model] = ModelScore(mean, half_width, len(queries), len(raw[model]), statistics.fmean(raw[model]))
    return scores


def agreement(ratings: Sequence[Rating]) -> float | None:
    """Return Krippendorff's alpha of ordinal data: 1 for perfect agreement, 0 for agreement by chance.

    Args:
        ratings: Ratings of one study.

    Returns:
        Alpha; None if no image was rated by two raters, or if all of these ratings are equal.
    """
    units: dict[tuple[int, int], list[int]] = {}
    for rating in ratings:
        units.setdefault((rating.position, rating.image), []).append(rating.score)
    return krippendorff_alpha(units, "ordinal", SCORES)


def krippendorff_alpha(units: Mapping[Any, Sequence[int]], level: Level, values: Sequence[int]) -> float | None:
    """Compute Krippendorff's alpha from the matrix of coincidences.

    Args:
        units: The values that raters gave to each unit.
        level: Level of measurement.
        values: All possible values, ascending.

    Returns:
        Alpha; None if it is not defined.

    Source:
        Krippendorff, Computing Krippendorff's alpha-reliability, 2011.
    """
    index = {value: i for i, value in enumerate(values)}
    coincidences = np.zeros((len(values), len(values)))
    for given in units.values():
        if len(given) > 1:
            counts = np.bincount([index[value] for value in given], minlength=len(values)).astype(float)
            coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(given) - 1)
    totals = coincidences.sum(axis=1)
    n = totals.sum()
    distances = _distances(level, np.array(values, dtype=float), totals)
    expected = float((np.outer(totals, totals) * distances).sum())
    if n < 2 or expected == 0:
        return None
    return 1 - float((coincidences * distances).sum()) * (float(n) - 1) / expected


def _distances(level: Level, values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return the squared difference of each pair of values."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    below = np.cumsum(totals) - totals / 2  # rank of the middle of each value
    return np.subtract.outer(below, below) ** 2
