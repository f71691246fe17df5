"""`dmlbench show`: print everything about one run, or draw it. Printing imports neither torch nor Hydra."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from dmlbench.cli.arguments import Parser, add_config_dir, add_runs_dir, path
from dmlbench.errors import UserError

EXAMPLES = """\
show runs/omniglot/triplet/1681b04f-ffc8b99b-0
show 1681b04f-ffc8b99b-0
show omniglot/triplet                       # if there is one run of it
show 1681b04f-ffc8b99b-0 --pictures queries.png
show 1681b04f-ffc8b99b-0 --pictures drawn --queries worst:8,photos/cat.jpg --k 10
"""
DETAILS = """\
--pictures draws instead of printing. The picture shows queries with their nearest images, in the order of
their scores: a green frame and a tick mark the class of the query, a dashed red frame and a cross another
class. Below, it shows the embeddings of some classes, projected onto two principal components. A DIR gets
queries.png and projection.png.

Queries are chosen by their MAP@R. Equal scores are common; --seed chooses among them. Images are read
from the files of the run. One that is missing, unreadable or not the image that the run read is drawn as a
placeholder that says so. Images outside of the current directory have to be named: dataset.root=DIR, or
paths.data=DIR. A run of several folds is drawn with its first model. A FILE of embeddings (.safetensors,
.npz or .npy) has no images, so only the projection is drawn.
"""
# Overrides that say where the images of a run are. For a run of an earlier version, its data set is read again.
OVERRIDES = re.compile(r"[+~]*(dataset\.|paths\.data=)")
# Options of pictures and their defaults; the parser has None, so that a given option is noticed.
DEFAULTS = {"queries": None, "k": "5", "classes": "10", "seed": "0", "crop": "model"}


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Print one run, finished or not: configuration, metrics, training, cost and files. Or draw its pictures."
    parser = Parser("show", "RUN [options]", description, EXAMPLES, DETAILS, overrides=OVERRIDES)
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUN", help="run directory, its row.json, or the beginning of a run id")
    add(
        *("--pictures",),
        metavar="FILE|DIR",
        type=path,
        help="draw queries with their nearest images, and a projection of embeddings (.png, .svg or .pdf, or a directory)",
    )
    add(
        *("--queries",),
        metavar="WHICH",
        help="queries to draw, separated by commas: worst, median, best and random, each with a number such as worst:8; or the "
        "path or id of an image (default: worst:2,median:2,best:2,random:2)",
    )
    add("--k", metavar="N", help="nearest images per query, 1 to 20 (default: 5)")
    add("--classes", metavar="N", help="classes of the projection, drawn at random, 0 to 20 (default: 10)")
    add("--seed", metavar="N", help="seed of what is drawn at random (default: 0)")
    add(
        *("--crop",),
        metavar="WHICH",
        choices=("model", "whole"),
        help="part of each image: the centre that the model saw (model, default), or the whole image",
    )
    add_runs_dir(parser)
    add_config_dir(parser, "with --pictures: configuration files and own code of a run of an earlier version")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print or draw the run."""
    options = tuple(one for one in arguments.selectors if OVERRIDES.match(one) and "=" in one and not Path(one).exists())
    selectors = [one for one in arguments.selectors if one not in options]
    if len(selectors) != 1:
        raise UserError(
            f"dmlbench show needs one run, not {len(selectors)}: a run directory, its row.json, or the beginning of a run id"
        )
    if arguments.pictures is not None:
        from dmlbench.cli.draw import draw_pictures

        return draw_pictures(selectors[0], arguments, options)
    given = [f"--{name}" for name in (*DEFAULTS, "config-dir") if getattr(arguments, name.replace("-", "_")) is not None]
    if given or options:
        raise UserError(f"{[*given, *options][0]} is for pictures; add --pictures FILE, such as --pictures queries.png")
    from dmlbench.results.find_runs import one_folder
    from dmlbench.results.run_folder import read_folder
    from dmlbench.tables.formats.run_text import as_text

    print(as_text(read_folder(one_folder(selectors[0], arguments.runs))), end="")
    return 0
