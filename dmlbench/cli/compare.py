"""`dmlbench compare`: test which of two methods is better. Imports neither torch nor Hydra."""

from __future__ import annotations

import argparse

from dmlbench.cli.arguments import Parser, add_runs_dir, own_name
from dmlbench.errors import UserError

EXAMPLES = """\
compare triplet arcface
compare omniglot/triplet omniglot/arcface --metric recall_at_1
compare before/omniglot/triplet after/omniglot/triplet
"""
DETAILS = """\
A and B each name one method with all its seeds: a directory, a row.json, or a part of the path of runs
below runs/, which is a method, dataset/method, or a run id without its seed (1681b04f-ffc8b99b). An
ambiguous name is rejected with a list of matches.

Prints the difference A - B with its 95 % confidence interval and p-value, which allow for chance
between seeds and between classes (see docs/significance.md); the classes with the largest gains and
losses of A; the cost; the model selection; and everything else that differs. If a test is impossible,
the output says why.
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Test which of two methods is better."
    parser = Parser("compare", "A B [options]", description, EXAMPLES, DETAILS)
    parser.add_argument("selectors", nargs="*", metavar="A B", help="two methods; see below")
    parser.add_argument("--metric", metavar="NAME", default="map_at_r", help="metric to test (default: map_at_r)")
    parser.add_argument("--format", metavar="FORMAT", default="text", choices=("text", "json"), help="text (default) or json")
    add_runs_dir(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print the comparison."""
    from dmlbench.results.find_runs import pair
    from dmlbench.tables import pairwise
    from dmlbench.tables.formats import pairwise_text

    if len(arguments.selectors) != 2:
        given = len(arguments.selectors)
        raise UserError(f"dmlbench compare needs two methods, not {given}, such as `dmlbench compare triplet arcface`")
    a, b = pair(arguments.selectors[0], arguments.selectors[1], arguments.runs)
    found = pairwise.compare_pair(a.rows, b.rows, own_name(arguments.metric))
    write = pairwise_text.as_json if arguments.format == "json" else pairwise_text.as_text
    print(write(found, (a.name, b.name)), end="")
    return 0
