"""Studies of blind rating and their ratings, as the database returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TOP = 3  # images of each model
SCORES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Study:
    """A blind comparison of models.

    Args:
        id: Number in the database.
        token: Random name in addresses.
        collection: Key of the data set.
        label: Name of the data set.
        n_queries: Number of queries.
        models: Key of each model to its label.
        metrics: Key of each model to its metrics when the study began.
    """

    id: int
    token: str
    collection: str
    label: str
    n_queries: int
    models: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Item:
    """An image that a rater rates.

    Args:
        token: Random name of the image for this rater and query.
        image: Id of the image.
        score: Rating so far; None if there is none.
    """

    token: str
    image: int
    score: int | None


@dataclass(frozen=True)
class Rating:
    """A rating, with everything that an analysis needs.

    Args:
        rater: Number of the rater.
        position: Number of the query in the study.
        query: Id of the query's image.
        image: Id of the rated image.
        score: 1 to 5.
        rated: Time in UTC.
        models: Key of each model that returned the image to its rank, from 1.
    """

    rater: int
    position: int
    query: int
    image: int
    score: int
    rated: str
    models: Mapping[str, int]
