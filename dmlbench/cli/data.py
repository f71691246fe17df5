"""`dmlbench data`: download, unpack and check data sets."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from dmlbench.cli.arguments import Parser, add_config_dir
from dmlbench.cli.overrides import prepare_composing
from dmlbench.errors import UserError

VERBS = ("prepare", "check")
EXAMPLES = """\
data prepare cub                                # interrupted downloads resume
data prepare cub dataset.archive=CUB_200_2011.tgz
data check cub
data check dataset=folder dataset.root=photos dataset.split=half_per_class
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = (
        "data prepare: download a data set, or take an archive that you have; verify and unpack it; then check it.\n"
        "data check: count images and classes, verify declared facts, find unreadable and duplicate images."
    )
    parser = Parser("data", "prepare|check NAME [KEY=VALUE ...] [options]", description, EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="WORD", help="prepare or check, the data set, and overrides")
    add_config_dir(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Prepare or check a data set."""
    verb, overrides = _words(arguments.words)
    prepare_composing(arguments)
    from dmlbench.cli.errors import COMPOSE_ERRORS, translate_error

    try:
        for line in _lines(verb, overrides, arguments):
            print(line, flush=True)
    except UserError:
        raise
    except COMPOSE_ERRORS as error:
        raise translate_error(error, overrides, arguments.config_dir) from error
    return 0


def _words(words: list[str]) -> tuple[str, list[str]]:
    """The verb, and overrides that choose the data set."""
    verb, *rest = words or [""]
    if verb not in VERBS:
        choices = "` or `".join(f"dmlbench data {one} NAME" for one in VERBS)
        raise UserError(f"dmlbench data does not know '{verb}'; use `{choices}`")
    if rest and "=" not in rest[0]:
        rest = [f"dataset={rest[0]}", *rest[1:]]
    if not any(one.startswith("dataset=") for one in rest):
        raise UserError(f"dmlbench data {verb} needs the name of a data set; `dmlbench list datasets` prints them")
    return verb, rest


def _lines(verb: str, overrides: list[str], arguments: argparse.Namespace) -> Iterator[str]:
    from dmlbench.config.compose import compose, dataset_settings

    composed = compose(overrides, arguments.config_dir)
    dataset = dataset_settings(composed)  # refused before torch is imported
    from dmlbench.data.check import report
    from dmlbench.runs.prepare import download_data, load_split

    if verb == "prepare":
        yield from download_data(composed)
    yield from report(dataset.label, load_split(dataset, Path(composed.cfg.paths.data)))
