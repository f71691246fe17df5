"""Choose queries of a run: by their score, at random, or by name. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from dmlbench.errors import UserError, suggest
from dmlbench.pictures.saved_embeddings import SavedEmbeddings
from dmlbench.results.query_scores import QueryScores
from dmlbench.results.run_images import RunImages
from dmlbench.system.streams import numpy_generator

Kind = Literal["worst", "median", "best", "random", "disputed", "named"]
KINDS = tuple(kind for kind in get_args(Kind) if kind not in ("disputed", "named"))  # that a user may request
DEFAULT = "worst:2,median:2,best:2,random:2"
MOST = 40  # queries in one picture


@dataclass(frozen=True)
class Query:
    """A query that was chosen.

    Args:
        id: Id of its image.
        kind: How it was chosen.
        score: Its score as a fraction; None if it has no relevant item, or if scores were not saved.
    """

    id: int
    kind: Kind
    score: float | None


@dataclass(frozen=True)
class Wanted:
    """A request for queries.

    Args:
        kind: How to choose them.
        n: Number of queries.
        name: Path or id of the image, for `named`.
    """

    kind: Kind
    n: int = 1
    name: str = ""


def parse_wanted(text: str, option: str = "--queries") -> list[Wanted]:
    """Parse a request such as `worst:3,random,photos/cat.jpg`.

    Args:
        text: Parts that are separated by commas: a kind with an optional number (2 without), or the path or id of an image.
        option: Name of the option, for errors.

    Raises:
        UserError: A number is not in the range 1 to `MOST`, or the total is larger.

    >>> parse_wanted("worst:3,random,12")
    [Wanted(kind='worst', n=3, name=''), Wanted(kind='random', n=2, name=''), Wanted(kind='named', n=1, name='12')]
    """
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        kind, separator, number = part.partition(":")
        if kind not in KINDS:
            found.append(Wanted("named", name=part))
        elif separator and not re.fullmatch(r"[1-9][0-9]{0,8}", number, re.ASCII):
            raise UserError(f"{option} is '{text}', but '{number}' is not a number of queries, such as {kind}:3")
        else:
            found.append(Wanted(kind, int(number or 2)))  # type: ignore[arg-type]  # one of the kinds
    total = sum(one.n for one in found)
    if not found:
        raise UserError(f"{option} needs a value, such as {option} {DEFAULT}")
    if total > MOST:
        raise UserError(f"{option} is '{text}', which requests {total} queries; a picture has at most {MOST}")
    return found


def choose(
    wanted: Sequence[Wanted], embeddings: SavedEmbeddings, scores: QueryScores | None, images: RunImages | None, seed: int = 0
) -> list[Query]:
    """Choose queries. No query is chosen twice, so fewer may be returned than requested.

    Args:
        wanted: Requests, which are served in their order.
        embeddings: Embeddings of the run.
        scores: Scores of the queries that have a relevant item; None if they were not saved.
        images: Paths of the images, for queries that are named by path; None if they are not known.
        seed: Seed of random queries, and of the choice among queries with equal scores.

    Raises:
        UserError: A request needs scores or paths that are not known, or no query has the name.
    """
    found: dict[int, Query] = {}
    known = {} if scores is None else _usable(scores, embeddings)
    for one in wanted:
        if one.kind == "named":
            found.setdefault(image_id := query_id(one.name, embeddings, images), Query(image_id, "named", known.get(image_id)))
            continue
        for image_id in _ordered(one.kind, embeddings, known, seed):
            if one.n == sum(query.kind == one.kind for query in found.values()):
                break
            found.setdefault(image_id, Query(image_id, one.kind, known.get(image_id)))
    return list(found.values())


def _usable(scores: QueryScores, embeddings: SavedEmbeddings) -> dict[int, float]:
    """Return the finite scores of images that have an embedding; the file may come from somebody else."""
    pairs = zip(map(int, scores.ids), map(float, scores.values), strict=True)
    return {image_id: value for image_id, value in pairs if image_id in embeddings.index and math.isfinite(value)}


def _ordered(kind: Kind, embeddings: SavedEmbeddings, known: dict[int, float], seed: int) -> list[int]:
    """Return the ids of all queries, the one that is requested first."""
    if kind == "random":
        return _shuffled(np.fromiter(known, dtype=np.int64) if known else embeddings.ids[embeddings.is_query], seed, kind)
    if not known:
        raise UserError(
            f"the scores of the queries (per_query.safetensors) are missing or damaged, so no query is the {kind}; use "
            "--queries random:4"
        )
    # Many queries may have equal scores, and their order would be that of the classes.
    ids = _shuffled(np.fromiter(known, dtype=np.int64), seed, "scored")
    ids.sort(key=lambda image_id: known[image_id], reverse=kind == "best")
    if kind == "median":
        middle = float(np.median(list(known.values())))
        ids.sort(key=lambda image_id: abs(known[image_id] - middle))
    return ids


def _shuffled(ids: np.ndarray, seed: int, what: str) -> list[int]:
    return [int(image_id) for image_id in numpy_generator(seed, f"picture_queries_{what}").permutation(np.sort(ids))]


def most_disputed(methods: Sequence[QueryScores], n: int, seed: int = 0) -> list[Query]:
    """Choose the queries about which methods disagree most: those with the largest variance of their scores.

    Args:
        methods: Scores of each method on the same queries; of several seeds, the means.
        n: Number of queries.
        seed: Seed of the choice among queries with equal variances.

    Returns:
        The queries, with the mean of their scores over the methods.

    Raises:
        UserError: There are fewer than two methods, or they were not evaluated on the same queries.
    """
    if len(methods) < 2:
        raise UserError("queries are disputed between at least two methods")
    order = [np.argsort(one.ids, kind="stable") for one in methods]
    ids, labels = methods[0].ids[order[0]], methods[0].labels[order[0]]
    for one, by_id in zip(methods, order, strict=True):
        if not np.array_equal(one.ids[by_id], ids) or not np.array_equal(one.labels[by_id], labels):
            raise UserError("the runs were not evaluated on the same queries, so none is disputed between them")
    values = np.stack([one.values[by_id].astype(np.float64) for one, by_id in zip(methods, order, strict=True)])
    # Rounded, so that equal disagreements are equal whatever the order of the methods.
    variance = dict(zip(map(int, ids), values.var(axis=0).round(12).tolist(), strict=True))
    means = dict(zip(map(int, ids), values.mean(axis=0).tolist(), strict=True))
    chosen = sorted(_shuffled(ids, seed, "disputed"), key=lambda image_id: -variance[image_id])
    return [Query(image_id, "disputed", means[image_id]) for image_id in chosen[:n]]


def query_id(name: str, embeddings: SavedEmbeddings, images: RunImages | None) -> int:
    """Return the id of the query that a user names.

    Args:
        name: Id; or path of its image, complete, relative to the directory of the images, or the end of it.
        embeddings: Embeddings of the run.
        images: Paths of the images; None if they are not known.

    Raises:
        UserError: No query has this name, or several.
    """
    queries = set(map(int, embeddings.ids[embeddings.is_query]))
    if re.fullmatch(r"[0-9]{1,18}", name, re.ASCII) and int(name) in queries:
        return int(name)
    if images is None:
        raise UserError(
            f"--queries {name} is not the id of a query (such as {min(queries)}), and the paths of the images are not known"
        )
    paths = {path: image_id for image_id, path in zip(images.ids, images.paths, strict=True) if image_id in queries}
    wanted = name.replace("\\", "/").removeprefix("./").removeprefix(f"{images.root.as_posix()}/")
    matches = [wanted] if wanted in paths else [path for path in paths if path.endswith(f"/{wanted}")]
    if len(matches) == 1:
        return paths[matches[0]]
    if matches:
        raise UserError(
            f"--queries {name} names {len(matches)} images, such as {matches[0]} and {matches[1]}; name one of them"
        )
    similar = suggest(wanted, paths)
    hint = similar if similar.startswith("; did") else f"; an image of a query is {min(paths)}" if paths else ""
    raise UserError(f"--queries {name} is neither {', '.join(KINDS)} nor a query of the run{hint}")
