"""The pictures of `dmlbench show RUN --pictures`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import allow_own_code, check_config_dir, print_error
from dmlbench.errors import UserError

if TYPE_CHECKING:
    from dmlbench.pictures.run_pictures import Pictures
    from dmlbench.results.row import Row
    from dmlbench.results.run_images import RunImages

EMBEDDING_SUFFIXES = (".safetensors", ".npz", ".npy")
MOST_NEIGHBOURS = 20


def draw_pictures(selector: str, arguments: argparse.Namespace, options: Sequence[str]) -> int:
    """Draw a run or a file of embeddings, and print what was drawn.

    Args:
        selector: Selector of one run, or a file of embeddings.
        arguments: Options of the command.
        options: Overrides that say where the images are.

    Returns:
        The exit status.

    Raises:
        UserError: The run has no embeddings, an option has a wrong value, or matplotlib is missing.
    """
    out: Path = arguments.pictures
    _check_output(out)
    k = _number(arguments, "k", "5", 1, MOST_NEIGHBOURS)
    file = Path(selector)
    if file.suffix in EMBEDDING_SUFFIXES and (file.is_file() or not file.exists()):
        pictures = _of_file(file, arguments, options)
    else:
        pictures = _of_run(selector, arguments, options, k)
    from dmlbench.pictures.run_pictures import draw

    for written in draw(pictures, out):
        print(f"{written} shows {_contents(pictures, written, out)}")
    return 0


def _check_output(out: Path) -> None:
    from dmlbench.tables.pictures import check_picture

    if not out.suffix and not out.parent.is_dir():
        raise UserError(f"--pictures {out}: {out.parent} is not a directory")
    check_picture(out if out.suffix else out.with_name("queries.png"), "--pictures")
    if out.suffix and out.is_dir():
        raise UserError(f"--pictures {out} is a directory; name a file in it, or a directory without a suffix")
    if not out.suffix and out.exists() and not out.is_dir():
        raise UserError(f"--pictures {out} is a file; name a directory, or a file that ends in .png, .svg or .pdf")


def _number(arguments: argparse.Namespace, name: str, default: str, least: int, most: int) -> int:
    text = getattr(arguments, name) or default
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or not least <= int(text) <= most:
        raise UserError(f"--{name} is '{text}', but must be a whole number from {least} to {most}")
    return int(text)


def _of_file(file: Path, arguments: argparse.Namespace, options: Sequence[str]) -> Pictures:
    """The projection of an external file of embeddings."""
    for name in ("queries", "k", "crop"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} is for runs; {file} contains embeddings without images")
    if options:
        raise UserError(f"{options[0]} is for runs; {file} contains embeddings without images")
    if not file.exists():
        raise UserError(f"{file} does not exist; name a file of embeddings, or a run")
    if not (classes := _classes(arguments)):
        raise UserError(f"--classes 0 leaves nothing to draw of {file}, which contains embeddings without images")
    from dmlbench.pictures.projection import project
    from dmlbench.pictures.run_pictures import Pictures
    from dmlbench.pictures.saved_embeddings import read_external

    found = project(read_external(file), classes, _seed(arguments))
    print_error(f"{file} contains embeddings without images, so only the projection is drawn, of rows scaled to unit length")
    return Pictures(file.name, (), "", found, {})


def _of_run(selector: str, arguments: argparse.Namespace, options: Sequence[str], k: int) -> Pictures:
    from dmlbench.pictures.projection import project
    from dmlbench.pictures.queries import DEFAULT, choose, parse_wanted
    from dmlbench.pictures.run_pictures import SCORE, Pictures, sheet_rows
    from dmlbench.pictures.saved_embeddings import model_directories, read_saved
    from dmlbench.pictures.thumbnails import View, model_view
    from dmlbench.results import run_files
    from dmlbench.results.class_files import class_names
    from dmlbench.results.query_scores import read_query_scores

    wanted = parse_wanted(arguments.queries or DEFAULT)
    classes, seed = _classes(arguments), _seed(arguments)
    row = _finished(selector, arguments.runs)
    embeddings = read_saved(row)
    folders = model_directories(row)
    scores = read_query_scores(folders[0] / run_files.PER_QUERY, SCORE)
    images = _images(row, options, arguments.config_dir)
    chosen = choose(wanted, embeddings, scores, images, seed)
    view = View(upright=model_view(row).upright) if arguments.crop == "whole" else model_view(row)
    known = class_names(row)
    names = {label: known[str(label)] for label in set(embeddings.labels.tolist()) if str(label) in known}
    rows = [one for _, one in sheet_rows(chosen, embeddings, images, names, view, k)]
    projection = project(embeddings, classes, seed) if classes else None
    title = f"{row.get('loss_label')} on {row.get('dataset_label')}, seed {row.seed}  ({row['run_id']})"
    if len(folders) > 1:
        title += f", first of {len(folders)} models"
    return Pictures(title, rows, view.sentence, projection, names)


def _finished(selector: str, runs_dir: Path) -> Row:
    from dmlbench.results import run_files
    from dmlbench.results.find_runs import one_folder
    from dmlbench.results.row_files import read_row
    from dmlbench.results.run_status import run_status

    folder = one_folder(selector, runs_dir)
    if not (folder / run_files.ROW).is_file():
        raise UserError(f"{folder} has no embeddings to draw: {run_status(folder)}")
    return read_row(folder / run_files.ROW)


def _images(row: Row, options: Sequence[str], config_dir: Path | None) -> RunImages | None:
    """The files of the images. If they are elsewhere, their places are drawn empty; options that do not help are refused."""
    from dmlbench.runs.image_list import find_images

    if check_config_dir(config_dir) is not None:
        allow_own_code(config_dir)
    try:
        return find_images(row, options, config_dir)
    except UserError as error:
        if options:
            raise
        print_error(f"the images are drawn empty: {error}")
        return None
    except Exception as error:
        from dmlbench.cli.errors import COMPOSE_ERRORS, translate_error

        if isinstance(error, COMPOSE_ERRORS):
            raise translate_error(error, list(options), config_dir) from error
        raise


def _classes(arguments: argparse.Namespace) -> int:
    from dmlbench.pictures.scatter import MOST_CLASSES

    return _number(arguments, "classes", "10", 0, MOST_CLASSES)


def _seed(arguments: argparse.Namespace) -> int:
    return _number(arguments, "seed", "0", 0, 2**53)


def _contents(pictures: Pictures, written: Path, out: Path) -> str:
    """What one of the files shows."""
    one = len(pictures.rows) == 1
    queries = f"{len(pictures.rows)} {'query with its' if one else 'queries with their'} nearest images"
    n_classes = 0 if pictures.projection is None else len(pictures.projection.classes)
    projection = f"a projection of {n_classes} class{'es' * (n_classes != 1)}" if n_classes else ""
    if written != out:
        return queries if written.stem == "queries" else projection
    return " and ".join(filter(None, [queries if pictures.rows else "", projection]))
