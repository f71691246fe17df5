"""Queries with the nearest images of every method: the worst, the most disputed and some random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dmlbench.errors import UserError
from dmlbench.pictures.labels import wrapped
from dmlbench.pictures.neighbours import nearest
from dmlbench.pictures.queries import Query, Wanted, choose, most_disputed
from dmlbench.pictures.saved_embeddings import SavedEmbeddings, model_directories, read_saved
from dmlbench.pictures.thumbnails import View, model_view
from dmlbench.report.figure import Method
from dmlbench.report.image_store import ImageStore
from dmlbench.results import run_files
from dmlbench.results.class_files import class_names
from dmlbench.results.formatting import format_percent, metric_label
from dmlbench.results.query_scores import QueryScores, read_query_scores
from dmlbench.results.row import Row
from dmlbench.results.run_images import RunImages

K = 5
MAX_SHOWN = 10  # methods
SCORE = "map_at_r"  # by which queries are chosen
WANTED = (("worst", 3), ("disputed", 3), ("random", 3))
TITLES = {
    "worst": "Worst: the lowest mean score over all trained methods",
    "disputed": "Most disputed: the largest disagreement between trained methods",
    "random": "Random",
}
FindImages = Callable[[Row], RunImages]


@dataclass(frozen=True)
class Tile:
    """One image.

    Args:
        image: Its number in the store; None if it cannot be shown.
        problem: Why it cannot be shown; empty if it can.
        name: Name of its class.
        relevant: Whether its class is that of the query; None for the query itself.
        score: Score in print; empty for the query.
    """

    image: int | None
    problem: str
    name: str
    relevant: bool | None = None
    score: str = ""

    @property
    def short_name(self) -> str:
        """The name on at most two short lines."""
        return wrapped(self.name, 13)


@dataclass(frozen=True)
class Answer:
    """What one method returns for a query.

    Args:
        method: The method.
        seed: Seed of the run.
        tiles: The nearest images.
        n_correct: Number of these with the class of the query.
        score: Score of the query in print.
    """

    method: Method
    seed: int
    tiles: Sequence[Tile]
    n_correct: int
    score: str


@dataclass(frozen=True)
class QueryPicture:
    """A query with the answers of all methods.

    Args:
        title: How it was chosen, with a number.
        tile: The query.
        image_id: Id of its image.
        answers: One per method.
    """

    title: str
    tile: Tile
    image_id: int
    answers: Sequence[Answer]


@dataclass(frozen=True)
class QueryPictures:
    """Queries of a table.

    Args:
        groups: Title of each kind of query to its queries.
        notes: How to read them, and what is missing, sentences.
    """

    groups: Mapping[str, Sequence[QueryPicture]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Shown:
    """The run by which a method is shown: its first seed whose embeddings can be read.

    Args:
        method: The method.
        row: The run.
        embeddings: Its embeddings.
        scores: Scores of its queries; None if they were not saved.
    """

    method: Method
    row: Row
    embeddings: SavedEmbeddings
    scores: QueryScores | None


def shown_runs(methods: Sequence[Method], metric: str) -> tuple[list[Shown], list[str]]:
    """Read the embeddings of one run per method; of the best ones if there are many.

    Args:
        methods: Methods of a table.
        metric: Metric that orders them.

    Returns:
        The runs, all with the same queries; and sentences about methods without one.
    """
    found: list[Shown] = []
    problems = []
    by_score = sorted(methods, key=lambda one: -cell.mean if (cell := one.row.cells.get(metric)) is not None else 1.0)
    best = {one.index for one in by_score[:MAX_SHOWN]}
    if len(methods) > MAX_SHOWN:
        problems.append(f"The {MAX_SHOWN} methods with the highest {metric_label(metric)} of {len(methods)} are shown.")
    for method in (one for one in methods if one.index in best):
        reason = "it has no finished run"
        for row in (row for row in method.row.rows if row.ok and row.folder is not None):
            try:
                embeddings = read_saved(row)
            except UserError as error:
                reason = str(error)
                continue
            folders = model_directories(row)
            if found and set(map(int, embeddings.ids)) != set(map(int, found[0].embeddings.ids)):
                reason = "its embeddings are those of other images"
                continue
            found.append(Shown(method, row, embeddings, read_query_scores(folders[0] / run_files.PER_QUERY, SCORE)))
            if len(folders) > 1:
                problems.append(f"{method.row.label} is shown with the first of its {len(folders)} models.")
            break
        else:
            problems.append(f"{method.row.label} is not shown: {reason}.")
    return found, problems


def query_pictures(
    runs: Sequence[Shown], find_images: FindImages, store: ImageStore, problems: Sequence[str], metric: str = SCORE
) -> QueryPictures:
    """Choose queries, find their nearest images in every method, and read all images.

    Args:
        runs: One run per method.
        find_images: Returns the files of the images of a run.
        store: Receives the images.
        problems: Sentences about methods that have no run to show.
        metric: Metric of the other pictures of the table.
    """
    if not runs:
        return QueryPictures({}, ["There are no embeddings to show, because no finished run has any.", *problems])
    images, notes = _images(runs, find_images)
    if images is None:
        return QueryPictures({}, [*notes, *problems])
    view = model_view(runs[0].row)
    names = next((found for run in runs if (found := class_names(run.row))), {})
    groups: dict[str, Sequence[QueryPicture]] = {}
    chosen: set[int] = set()
    for kind, n in WANTED:
        try:
            queries = [query for query in _queries(kind, n + len(chosen), runs) if query.id not in chosen][:n]
        except UserError as error:
            notes.append(f"No {kind} queries: {error}.")
            continue
        chosen |= {query.id for query in queries}
        groups[TITLES[kind]] = [
            _picture(query, f"{kind.capitalize()} query {place}", runs, images, names, view, store)
            for place, query in enumerate(queries, 1)
        ]
    groups, gone = _with_image(groups)
    if not groups and gone:
        return QueryPictures({}, [f"No query is shown, because its image is {gone}.", *problems])
    notes += [f"Queries whose image is {gone} are not shown."] if gone else []
    seeds = sorted({run.row.seed for run in runs})
    how = "" if metric == SCORE else f" Queries are chosen by {metric_label(SCORE)}, and searched for among the test images."
    notes.insert(0, f"Each method is shown by one run (seed {' or '.join(map(str, seeds))}).{how} {view.sentence}")
    return QueryPictures(groups, [*notes, *problems])


def _with_image(
    groups: Mapping[str, Sequence[QueryPicture]],
) -> tuple[dict[str, Sequence[QueryPicture]], str]:
    """Return the queries whose image can be shown, and what is wrong with those of others, such as `missing or changed`."""
    problems = sorted({query.tile.problem for queries in groups.values() for query in queries if query.tile.image is None})
    found = {title: [query for query in queries if query.tile.image is not None] for title, queries in groups.items()}
    return {title: queries for title, queries in found.items() if queries}, " or ".join(problems)


def _images(runs: Sequence[Shown], find_images: FindImages) -> tuple[RunImages | None, list[str]]:
    """Return the images of the first run that has any; all runs of a table have the same split."""
    reasons = []
    for run in runs:
        try:
            return find_images(run.row), []
        except UserError as error:
            reasons.append(str(error))
    return None, [f"The images are not shown: {reasons[0]}."]


def _queries(kind: str, n: int, runs: Sequence[Shown]) -> list[Query]:
    scored = [run.scores for run in runs if run.scores is not None and run.method.row.trained]
    if kind == "random":
        return choose([Wanted("random", n)], runs[0].embeddings, None, None)
    if not scored:
        raise UserError("the scores of queries (per_query.safetensors) were not saved, or cannot be read")
    if kind == "disputed":
        return most_disputed(scored, n)
    everything = most_disputed([scored[0], *scored[1:]], len(scored[0].ids)) if len(scored) > 1 else None
    if everything is None:
        return choose([Wanted("worst", n)], runs[0].embeddings, scored[0], None)
    return sorted(everything, key=lambda query: query.score or 0)[:n]


def _picture(
    query: Query,
    title: str,
    runs: Sequence[Shown],
    images: RunImages,
    names: Mapping[str, str],
    view: View,
    store: ImageStore,
) -> QueryPicture:
    label = int(runs[0].embeddings.labels[runs[0].embeddings.index[query.id]])
    tile = Tile(*store.add(images, query.id, view), _name(names, label))
    return QueryPicture(title, tile, query.id, [_answer(query, run, images, names, view, store) for run in runs])


def _answer(query: Query, run: Shown, images: RunImages, names: Mapping[str, str], view: View, store: ImageStore) -> Answer:
    near = nearest(run.embeddings, query.id, K)
    tiles = [
        Tile(*store.add(images, int(image_id), view), _name(names, int(label)), bool(relevant), f"{score:.3f}")
        for image_id, label, score, relevant in zip(near.ids, near.labels, near.scores, near.relevant, strict=True)
    ]
    own = {} if run.scores is None else dict(zip(map(int, run.scores.ids), map(float, run.scores.values), strict=True))
    score = f"{metric_label(SCORE)} {format_percent(own[query.id])} %" if query.id in own else "not scored"
    return Answer(run.method, run.row.seed, tiles, int(near.relevant.sum()), score)


def _name(names: Mapping[str, str], label: int) -> str:
    return names.get(str(label)) or f"class {label}"
