"""`dmlbench table`: print fair comparison tables. Imports neither torch nor Hydra."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, add_config_dir, add_runs_dir, check_config_dir, print_error

if TYPE_CHECKING:
    from dmlbench.results.row_files import SkippedFile

MAX_SKIPPED = 5  # skipped files that are named; further ones are counted
FORMATS = ("markdown", "latex", "csv", "html")
EXAMPLES = """\
table                                       # every run below runs/
table runs/cub --format latex
table cub/triplet cub/arcface
table --vary trunk --metrics recall_at_1,map_at_r
table --format csv > results.csv
"""
DETAILS = """\
RUNS is a directory that contains runs, a row.json, or part of the path of runs below runs/:
`cub/triplet` (a method on a data set), or a run id or its beginning.

Rows are compared in one table only if everything except the axis and the seed is equal. Bold marks the
best method and every method not significantly different from it (needs at least two seeds; see
docs/significance.md). A run that failed, crashed, is running or has not finished leaves its method
without numbers (--), and a footnote says why; delete its directory to remove it. Files that are not
rows are skipped with a warning.
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser("table", "[RUNS ...] [options]", "Print fair comparison tables of runs.", EXAMPLES, DETAILS, ("vary",))
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUNS", help="which runs (default: all below runs/)")
    add(
        *("--vary",),
        metavar="AXIS",
        default="loss",
        help="what may differ between two rows of a table: loss (default); trunk, sampler, optimizer, protocol, or one value "
        "such as loss.make.margin or protocol.embedding_dim, for one loss at a time; or preset: a loss under a fixed "
        "protocol and under the recipe of its paper",
    )
    add("--format", metavar="FORMAT", default="markdown", choices=FORMATS, help="markdown (default), latex, csv or html")
    add(
        *("--metrics",),
        metavar="A,B",
        default="",
        help="metrics to print, such as recall_at_1,map_at_r (default: Recall@k, R-precision and MAP@R)",
    )
    add("--explain", action="store_true", help="print what the rows have in common, and how tables differ, instead of them")
    add("--oracle", action="store_true", help="also print what choosing the epoch on the test set would have claimed")
    add("--no-cost", action="store_true", help="omit training time, speed, memory and parameters")
    add(
        *("--published",),
        metavar="WHICH",
        default="same",
        choices=("none", "same", "all"),
        help="published results to print below a rule: same (default), of the same data set, split and trunk; all; none",
    )
    add("--no-test", action="store_true", help="skip significance tests; faster for thousands of rows")
    add("--untested", dest="no_test", action="store_true", help=argparse.SUPPRESS)  # its former name
    add_runs_dir(parser)
    add_config_dir(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print the tables."""
    from dmlbench.results.find_runs import select
    from dmlbench.results.row_files import read_rows
    from dmlbench.tables.explanation import explain
    from dmlbench.tables.formats import render
    from dmlbench.tables.table import compare

    config_dir = check_config_dir(arguments.config_dir)
    paths = [path for selector in arguments.selectors for path in select(selector, arguments.runs)]
    rows, skipped = read_rows(*(paths or [arguments.runs]))
    print_skipped(skipped)
    tables = compare(
        rows,
        arguments.vary,
        metrics=[name.strip() for name in arguments.metrics.split(",") if name.strip()],
        tested=not arguments.no_test and not arguments.explain,
        oracle=arguments.oracle,
        cost=not arguments.no_cost,
        published=arguments.published,
        config_dir=config_dir,
    )
    print(explain(tables, arguments.vary) if arguments.explain else render(tables, arguments.format), end="")
    return 0


def print_skipped(skipped: Sequence[SkippedFile]) -> None:
    """Print which files were skipped, and why."""
    for path, reason in skipped[:MAX_SKIPPED]:
        print_error(" ".join(f"skipped {path}: {reason}".split())[:500])
    if len(skipped) > MAX_SKIPPED:
        print_error(f"skipped {len(skipped) - MAX_SKIPPED} more files")
