"""`dmlbench show`: print everything about one run. Imports neither torch nor Hydra."""

from __future__ import annotations

import argparse

from dmlbench.cli.arguments import Parser, add_runs_dir
from dmlbench.errors import UserError

EXAMPLES = """\
show runs/omniglot/triplet/1681b04f-ffc8b99b-0
show 1681b04f-ffc8b99b-0
show omniglot/triplet                       # if there is one run of it
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Print one run, finished or not: configuration, metrics, training, cost and files."
    parser = Parser("show", "RUN [options]", description, EXAMPLES)
    parser.add_argument("selectors", nargs="*", metavar="RUN", help="run directory, its row.json, or the beginning of a run id")
    add_runs_dir(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print the run."""
    from dmlbench.results.find_runs import one_folder
    from dmlbench.results.run_folder import read_folder
    from dmlbench.tables.formats.run_text import as_text

    if len(arguments.selectors) != 1:
        given = len(arguments.selectors)
        raise UserError(
            f"dmlbench show needs one run, not {given}: a run directory, its row.json, or the beginning of a run id"
        )
    print(as_text(read_folder(one_folder(arguments.selectors[0], arguments.runs))), end="")
    return 0
