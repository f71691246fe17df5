"""`dmlbench data`: download, unpack and check data sets."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from dmlbench.cli.arguments import Parser, add_config_dir
from dmlbench.cli.overrides import check_overrides, prepare_composing
from dmlbench.errors import UserError, suggest
from dmlbench.system.terminal import printable

VERBS = ("prepare", "check")
EXAMPLES = """\
data prepare cub                       # interrupted downloads resume
data prepare cub dataset.archive=CUB_200_2011.tgz
data check cub
data check folder dataset.root=photos  # your own images, one directory per class
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = (
        "data prepare: download a data set, or use an archive that you have; verify, unpack and check it.\n"
        "data check: count images and classes, verify declared facts, hash and decode every image, and find unreadable\n"
        "and duplicate ones."
    )
    parser = Parser("data", "prepare|check NAME [KEY=VALUE ...] [options]", description, EXAMPLES)
    parser.add_argument(
        "overrides", nargs="*", metavar="ARGUMENT", help="prepare or check, the name of the data set, and overrides"
    )
    add_config_dir(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Prepare or check a data set."""
    verb, choice = _verb_and_overrides(arguments.overrides)
    prepare_composing(arguments)
    overrides = check_overrides(choice, arguments.config_dir)
    from dmlbench.cli.errors import COMPOSE_ERRORS, translate_error

    try:
        for line in _lines(verb, overrides, arguments):
            print(printable(line), flush=True)
    except UserError:
        raise
    except COMPOSE_ERRORS as error:
        raise translate_error(error, overrides, arguments.config_dir) from error
    return 0


def _verb_and_overrides(typed: list[str]) -> tuple[str, list[str]]:
    """Split arguments into the verb and the overrides, of which the first chooses the data set."""
    verb, *rest = typed or [""]
    if verb not in VERBS:
        name = verb if verb and not rest else "NAME"
        similar = suggest(verb, VERBS)
        choices = "` or `".join(f"dmlbench data {one} {name}" for one in VERBS)
        problem = f"does not know '{verb}'" if verb else "needs to know what to do"
        raise UserError(f"dmlbench data {problem}" + (similar if "did you mean" in similar else f"; use `{choices}`"))
    for one in rest[1:]:
        if "=" not in one and Path(one).exists():
            raise UserError(f"'{one}' is not KEY=VALUE; did you mean 'dataset.root={one}'?")
    if rest and "=" not in rest[0]:
        rest = [f"dataset={rest[0]}", *rest[1:]]
    if not any(one.startswith("dataset=") for one in rest):
        raise UserError(f"dmlbench data {verb} needs the name of a data set; `dmlbench list datasets` prints them")
    return verb, rest


def _lines(verb: str, overrides: list[str], arguments: argparse.Namespace) -> Iterator[str]:
    from dmlbench.config.compose import compose, dataset_settings

    composed = compose(overrides, arguments.config_dir)
    dataset = dataset_settings(composed)  # refused before torch is imported
    from dmlbench.data.check_report import check_data, report
    from dmlbench.runs.prepare import download_data, listed_split, load_split

    data_dir = Path(composed.cfg.paths.data)
    if verb == "prepare":
        yield from download_data(composed)
        yield from report(dataset.label, load_split(dataset, data_dir))
    else:
        yield from check_data(dataset, listed_split(dataset), data_dir)
