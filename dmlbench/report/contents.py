"""Everything that a report shows, read from the run directories; `page` writes it as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dmlbench.errors import UserError
from dmlbench.report.class_gains import ClassWins, class_wins
from dmlbench.report.cost_plot import cost_figure
from dmlbench.report.critical_difference import critical_difference_figure
from dmlbench.report.epoch_plots import read_histories, training_figure, validation_figure
from dmlbench.report.figure import Figure, Method, main_metric, methods_of
from dmlbench.report.headline import headline, labelled_differences
from dmlbench.report.image_store import ImageStore
from dmlbench.report.interval_plot import interval_figure
from dmlbench.report.pair_tests import pairwise_tests
from dmlbench.report.projection_figure import projection_figure
from dmlbench.report.provenance import Provenance, provenance_of
from dmlbench.report.query_budget import within_budget
from dmlbench.report.query_pictures import FindImages, QueryPictures, query_pictures, shown_runs
from dmlbench.report.recall_plot import recall_figure
from dmlbench.report.score_table import HtmlTable, html_table
from dmlbench.results.row import Row
from dmlbench.results.row_files import SkippedFile, read_row, read_rows
from dmlbench.tables.caption import dataset_label
from dmlbench.tables.table import Table, compare
from dmlbench.tables.table_differences import with_differences

MAX_ILLUSTRATED = 8  # tables with pictures; further ones have only their numbers
# Of all tables together: a report of 8 methods and 3 seeds has at most 3 MB, and so has one of 163 runs in 7 tables.
IMAGE_BYTES, PICTURE_BYTES = 1_500_000, 1_200_000
NOTHING = "There is no finished run here, so there is nothing to compare. Start with `dmlbench sweep`."


@dataclass(frozen=True)
class Options:
    """What a report shows.

    Args:
        vary: Axis of the tables.
        metrics: Metrics to print; empty for those that `dmlbench table` prints.
        published: Which published results to print.
        config_dir: Directory of the user's own configuration files.
        find_images: Returns the files of the images of a run; None for a report without images.
        projection: `pca`, or `umap` if it is installed.
    """

    vary: str = "loss"
    metrics: tuple[str, ...] = ()
    published: str = "same"
    config_dir: Path | None = None
    find_images: FindImages | None = None
    projection: str = "pca"


@dataclass(frozen=True)
class Section:
    """A table and everything about it.

    Args:
        number: Number of the table, from 1.
        dataset: Name of the data set.
        title: Data set, trunk and protocol.
        distinction: Columns that distinguish the table from others of the same title; empty if there are none.
        summary: The best methods, a sentence.
        caption: Caption of the table.
        methods: Its methods.
        table: Its cells.
        figures: Pictures of its numbers.
        wins: Classes won and lost; None without pictures.
        queries: Queries with their nearest images; None without pictures.
        projection: Projection of embeddings; None without pictures.
        provenance: Where its numbers come from.
    """

    number: int
    dataset: str
    title: str
    distinction: str
    summary: str
    caption: str
    methods: Sequence[Method]
    table: HtmlTable
    figures: Sequence[Figure]
    wins: ClassWins | None
    queries: QueryPictures | None
    projection: Figure | None
    provenance: Provenance


@dataclass(frozen=True)
class Contents:
    """A report.

    Args:
        sections: One per table.
        differences: Why several tables are not one: a heading and items; an empty heading for one table.
        problems: What the whole report lacks, sentences.
        skipped: Files that are not rows.
        store: All images.
        n_runs: Number of runs, unfinished ones included.
    """

    sections: Sequence[Section]
    differences: tuple[str, Sequence[str]]
    problems: Sequence[str]
    skipped: Sequence[SkippedFile]
    store: ImageStore
    n_runs: int


def read_contents(paths: Sequence[Path], options: Options) -> Contents:
    """Read runs, compare them, and draw them.

    Args:
        paths: Directories with runs, or files of rows. What is not a row is listed, also if it was named.
        options: What to show.

    Raises:
        UserError: The axis or a metric is unknown.
    """
    rows, skipped = _read(paths)
    store = ImageStore(IMAGE_BYTES)
    if not rows:
        return Contents((), ("", ()), [NOTHING], skipped, store, 0)
    tables = compare(
        rows,
        options.vary,
        metrics=options.metrics,
        published=options.published,
        config_dir=options.config_dir,
    )
    differences = labelled_differences(tables) if len(tables) > 1 else ("", ())
    described, sections = with_differences(tables), {}
    by_size = sorted(range(len(tables)), key=lambda place: -sum(len(one.rows) for one in tables[place].rows))
    n_bytes, problems = 0, []
    for n_before, place in enumerate(by_size):
        table = described[place]
        distinction = table.details[0] if len(table.details) > len(tables[place].details) else ""
        illustrated = n_before < MAX_ILLUSTRATED and n_bytes < PICTURE_BYTES
        sections[place] = _section(table, place + 1, distinction, options, store if illustrated else None)
        n_bytes += picture_bytes(sections[place])
    queries, left_out = within_budget([sections[place].queries for place in by_size], store)
    for place, found in zip(by_size, queries, strict=True):
        sections[place] = replace(sections[place], queries=found)
    without = [str(place + 1) for place in range(len(tables)) if not sections[place].figures and main_metric(tables[place])]
    if without:
        which = f"Table {without[0]} has" if len(without) == 1 else f"Tables {', '.join(without)} have"
        problems.append(f"{which} no pictures, so that the page stays small; name the runs of fewer tables to see them.")
    problems += [left_out] if left_out else []
    return Contents([sections[place] for place in range(len(tables))], differences, problems, skipped, store, len(rows))


def picture_bytes(section: Section) -> int:
    """Estimate the size of the pictures of a table on the page, without images.

    Args:
        section: A table and its pictures.
    """
    figures = [*section.figures, *([section.projection] if section.projection else [])]
    pairs = section.wins.pairs if section.wins else ()
    queries = section.queries.groups.values() if section.queries else ()
    n_tiles = sum(len(answer.tiles) for group in queries for query in group for answer in query.answers)
    n_listed = sum(len(pair.gains) + len(pair.losses) for pair in pairs)
    curves = sum(len(pair.curve) for pair in pairs)
    return sum(len(panel) for one in figures for panel in one.panels) + curves + 250 * n_listed + 400 * n_tiles


def _read(paths: Sequence[Path]) -> tuple[list[Row], list[SkippedFile]]:
    """Read all rows; a named file that is not a row is listed with the other skipped files."""
    refused = []
    for path in paths:
        if path.is_file():
            try:
                read_row(path.resolve() if path.is_symlink() else path)
            except UserError as error:
                refused.append(SkippedFile(str(path), str(error)))
    names = {one.path for one in refused}
    rows, skipped = read_rows(*(path for path in paths if str(path) not in names))
    return rows, [*refused, *skipped]


def _section(table: Table, number: int, distinction: str, options: Options, store: ImageStore | None) -> Section:
    """Return a table, with pictures if there is a store for its images."""
    methods, metric = methods_of(table), main_metric(table)
    histories = read_histories(methods)
    figures: list[Figure] = []
    wins = queries = projection = None
    if store is not None and metric is not None:
        tests = pairwise_tests(methods, metric, table.comparable)
        figures = [
            interval_figure(table, methods),
            critical_difference_figure(tests, metric),
            cost_figure(table, methods, metric),
            recall_figure(table, methods),
            validation_figure(methods, histories),
            training_figure(methods, histories),
        ]
        wins = class_wins(methods, metric, tests)
        runs, problems = shown_runs(methods, metric)
        projection = projection_figure(runs, options.projection)
        if options.find_images is not None:
            queries = query_pictures(runs, options.find_images, store, problems, metric)
    first = table.rows[0].rows[0]
    return Section(
        number=number,
        dataset=dataset_label([first]),
        title=_title(first),
        distinction=distinction,
        summary=headline(table, metric),
        caption=table.caption,
        methods=methods,
        table=html_table(table, methods),
        figures=figures,
        wins=wins,
        queries=queries,
        projection=projection,
        provenance=provenance_of(table, methods, histories),
    )


def _title(row: Row) -> str:
    trunk, protocol = str(row.get("trunk_label") or row["trunk"]), str(row["protocol"])
    return ", ".join(dict.fromkeys((dataset_label([row]), trunk, protocol)))
