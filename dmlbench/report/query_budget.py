"""Fewer queries, if the images of all tables together are too large even at their smallest size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from dmlbench.report.image_store import ImageStore
from dmlbench.report.query_pictures import TITLES, QueryPicture, QueryPictures


def within_budget(pictures: Sequence[QueryPictures | None], store: ImageStore) -> tuple[list[QueryPictures | None], str]:
    """Leave out queries until the images of the others fit: the random ones of the last table first, the worst ones last.

    Args:
        pictures: Queries of each table, the most important table first.
        store: Images of all of them; afterwards, those of the queries that are left.

    Returns:
        Queries of each table; and a sentence about those that were left out, empty if there are none.
    """
    sizes = store.smallest_sizes()
    users = Counter(image for one in _all(pictures) for image in _images(one[-1]))
    total = sum(sizes[image] for image in users)
    removed: set[tuple[int, str, int]] = set()
    for table, kind, place, query in sorted(_all(pictures), key=_importance, reverse=True):
        if total <= store.budget:
            break
        removed.add((table, kind, place))
        for image in _images(query):
            users[image] -= 1
            total -= sizes[image] * (users[image] == 0)
    if not removed:
        return list(pictures), ""
    store.keep([image for image, n in users.items() if n > 0])
    left = [None if one is None else _without(one, table, removed) for table, one in enumerate(pictures)]
    text = f"{len(removed)} queries are not shown, because the images of all queries have more than {store.budget / 1e6:.1f} MB"
    return left, f"{text}; name fewer runs to see them."


def _all(pictures: Sequence[QueryPictures | None]) -> Iterator[tuple[int, str, int, QueryPicture]]:
    """Yield the table, the kind, the number and the contents of each query."""
    for table, one in enumerate(pictures):
        for kind, queries in one.groups.items() if one is not None else ():
            for place, query in enumerate(queries):
                yield table, kind, place, query


def _importance(entry: tuple[int, str, int, QueryPicture]) -> tuple[int, int, int]:
    table, kind, place, _ = entry
    return list(TITLES.values()).index(kind), table, place


def _images(query: QueryPicture) -> set[int]:
    """Return the numbers of all images of a query."""
    tiles = [query.tile, *(tile for answer in query.answers for tile in answer.tiles)]
    return {tile.image for tile in tiles if tile.image is not None}


def _without(pictures: QueryPictures, table: int, removed: set[tuple[int, str, int]]) -> QueryPictures:
    groups = {
        kind: [query for place, query in enumerate(queries) if (table, kind, place) not in removed]
        for kind, queries in pictures.groups.items()
    }
    return replace(pictures, groups={kind: queries for kind, queries in groups.items() if queries})
