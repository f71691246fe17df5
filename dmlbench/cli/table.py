"""`dmlbench table`: print fair comparison tables. Imports neither torch nor Hydra."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from dmlbench.cli.arguments import Parser, add_config_dir, add_runs_dir, check_config_dir, own_name, path, print_error
from dmlbench.errors import UserError
from dmlbench.system.terminal import printable_lines

if TYPE_CHECKING:
    from dmlbench.results.row import Row
    from dmlbench.results.row_files import SkippedFile

T = TypeVar("T")

MAX_SKIPPED = 5  # skipped files that are printed with their reason; further ones are only counted
FORMATS = ("markdown", "latex", "csv", "html")
EXAMPLES = """\
table                                       # every run below runs/
table runs/cub --format latex
table cub/triplet cub/arcface
table --vary trunk --metrics recall_at_1,map_at_r
table --by lr --picture rates.png
table --by split                            # after `dmlbench sweep sweep=splits`
table --by loss.make.alpha,loss.make.beta --picture grid.png
table --format csv > results.csv
"""
DETAILS = """\
RUNS is a directory that contains runs, a row.json, or a part of the path of runs below runs/:
`cub/triplet` (a method on a data set), or the beginning of a run id.

Rows are compared in one table only if everything except the axis and the seed is equal. Bold marks the
best trained method and every method not significantly different from it (needs at least two seeds; see
docs/significance.md). With --by lr, methods are the lines and learning rates the columns, for a sweep
such as sweep=lr_sensitivity. If a run failed, crashed, is running or has not finished, its method is listed
without scores (--), and a footnote says why; delete the directory of the run to remove it. Files that
are not rows are skipped with a warning, and so are published entries that `publish --check` refuses. In
CSV, text that a spreadsheet would read as a formula begins with an apostrophe.
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Print comparison tables of runs. Only comparable runs share a table."
    parser = Parser("table", "[RUNS ...] [options]", description, EXAMPLES, DETAILS, ("vary",))
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUNS", help="which runs (default: all below runs/)")
    add(
        *("--vary",),
        metavar="AXIS",
        default="loss",
        help="what may differ between the rows of a table: loss (default); trunk, sampler, optimizer or protocol; one value, "
        "such as loss.make.margin or protocol.embedding_dim, for one loss at a time; layer (after `evaluate --layer`); or "
        "preset (a loss under a fixed protocol and under the recipe of its paper)",
    )
    add(
        *("--by",),
        metavar="VALUE",
        help="print one metric of each method, with ranks, over learning rates (lr) or over random class splits (split); or of "
        "one method over two values, such as loss.make.alpha,loss.make.beta",
    )
    add("--picture", metavar="FILE", type=path, help="also draw the table into FILE (.png, .svg or .pdf)")
    add("--format", metavar="FORMAT", default="markdown", choices=FORMATS, help="markdown (default), latex, csv or html")
    add(
        *("--metrics",),
        metavar="METRIC,METRIC",
        help="metrics to print, such as recall_at_1,map_at_r (default: Recall@k, R-precision and MAP@R)",
    )
    add(
        "--explain",
        action="store_true",
        help="instead of tables, print what their rows have in common and in what tables differ",
    )
    add("--oracle", action="store_true", help="also print what choosing the epoch on the test set would have claimed")
    add("--no-cost", action="store_true", help="omit training time, speed, memory and parameters")
    add(
        *("--published",),
        metavar="WHICH",
        default="same",
        choices=("none", "same", "all"),
        help="published results to print below a line: same (those for the same data set, split and trunk; default), all or "
        "none",
    )
    add(
        *("--no-test",),
        action="store_true",
        help="skip significance tests and print the highest mean in bold (needs two seeds); faster for thousands of rows",
    )
    add("--untested", dest="no_test", action="store_true", help=argparse.SUPPRESS)  # its former name
    add_runs_dir(parser)
    add_config_dir(parser, "also read published results in DIR/published")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Print the tables."""
    from dmlbench.results.find_runs import select
    from dmlbench.results.row_files import read_rows
    from dmlbench.tables.explanation import explain
    from dmlbench.tables.formats import render
    from dmlbench.tables.pictures import check_picture, draw_methods
    from dmlbench.tables.table import compare

    config_dir = check_config_dir(arguments.config_dir)
    if arguments.picture is not None:
        check_picture(arguments.picture)
    if arguments.by is not None:
        _check_by(arguments.by)
    if arguments.by and (arguments.vary != "loss" or arguments.explain or arguments.oracle):
        raise UserError(f"--by {arguments.by} prints one metric of methods, without --vary, --explain and --oracle")
    if arguments.by == "split" and arguments.picture is not None:
        raise UserError("--picture draws tables and --by lr, but not --by split")
    paths = [found for selector in arguments.selectors for found in select(selector, arguments.runs)]
    rows, skipped = _accepted(*read_rows(*(paths or [arguments.runs])))
    print_skipped(skipped)
    if arguments.by is not None:
        return _print_by(rows, arguments)
    tables = compare(
        rows,
        arguments.vary,
        metrics=_metrics(arguments.metrics),
        tested=not arguments.no_test and not arguments.explain,
        oracle=arguments.oracle,
        cost=not arguments.no_cost,
        published=arguments.published,
        config_dir=config_dir,
    )
    print(explain(tables, arguments.vary) if arguments.explain else render(tables, arguments.format), end="")
    if arguments.picture is not None:
        draw_methods(_only(tables), arguments.picture)
    return 0


def _accepted(rows: Sequence[Row], skipped: Sequence[SkippedFile]) -> tuple[Sequence[Row], Sequence[SkippedFile]]:
    """Skip published entries that `dmlbench publish --check` refuses."""
    from dmlbench.publication.layout import is_entry

    folders = [row.folder for row in rows if row.folder is not None and is_entry(row.folder)]
    if not folders:
        return rows, skipped
    from dmlbench.publication.entries import refusals, verified_entries  # imports numpy

    refused = refusals(verified_entries(folders))
    wrong = {one.path for one in refused}
    return [row for row in rows if str(row.folder) not in wrong], [*skipped, *refused]


def _print_by(rows: Sequence[Row], arguments: argparse.Namespace) -> int:
    """Print, and perhaps draw, one metric of methods over learning rates, class splits or two values."""
    from dmlbench.tables.by_rate import compare_rates
    from dmlbench.tables.by_split import compare_splits
    from dmlbench.tables.formats.by_rate import csv_by_rate, markdown_by_rate
    from dmlbench.tables.formats.by_split import csv_by_split, markdown_by_split
    from dmlbench.tables.formats.grid import csv_grid, markdown_grid
    from dmlbench.tables.grid import compare_grid
    from dmlbench.tables.grid_picture import draw_grid
    from dmlbench.tables.pictures import draw_rates

    if arguments.format not in ("markdown", "csv"):
        raise UserError(f"--by {arguments.by} is printed as markdown or csv, not as {arguments.format}")
    as_csv, metric = arguments.format == "csv", _one_metric(arguments)
    if arguments.by == "split":
        splits = compare_splits(rows, metric)
        print(printable_lines(csv_by_split(splits) if as_csv else markdown_by_split(splits)), end="")
        return 0
    if arguments.by != "lr":
        first, second = arguments.by.split(",")
        grids = compare_grid(rows, (first, second), metric)
        print(printable_lines(csv_grid(grids) if as_csv else markdown_grid(grids)), end="")
        if arguments.picture is not None:
            draw_grid(_only(grids), arguments.picture)
        return 0
    rates = compare_rates(rows, metric)
    print(printable_lines(csv_by_rate(rates) if as_csv else markdown_by_rate(rates)), end="")
    if arguments.picture is not None:
        draw_rates(_only(rates), arguments.picture)
    return 0


def _check_by(value: str) -> None:
    """Refuse a value of --by that is neither of the names nor two keys."""
    if value not in ("lr", "split") and len([key for key in value.split(",") if key.strip()]) != 2:
        raise UserError(f"--by {value} is not known; use lr, split, or two values such as loss.make.alpha,loss.make.beta")


def _one_metric(arguments: argparse.Namespace) -> str:
    metric, *more = _metrics(arguments.metrics) or ["map_at_r"]
    if more:
        raise UserError(f"--by {arguments.by} prints one metric; use --metrics {metric}")
    return metric


def _only(tables: Sequence[T]) -> T:
    """Return the only table, for a picture."""
    if len(tables) != 1:
        raise UserError(f"--picture draws one table, but these rows make {len(tables)}; name the directories of one of them")
    return tables[0]


def _metrics(text: str | None) -> list[str]:
    """Names of metrics; another name of a metric is replaced by that of its column."""
    return [own_name(name) for name in _names("--metrics", text)]


def _names(option: str, text: str | None) -> list[str]:
    """Names that are separated by commas."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise UserError(f"{option} needs a value, such as {option} recall_at_1,map_at_r")
    return names


def print_skipped(skipped: Sequence[SkippedFile]) -> None:
    """Print which files were skipped, and why.

    Args:
        skipped: Files that are not rows, each with the reason.
    """
    for file, reason in skipped[:MAX_SKIPPED]:
        print_error(" ".join(f"skipped {file}: {reason}".split())[:500])
    if len(skipped) > MAX_SKIPPED:
        print_error(f"skipped {len(skipped) - MAX_SKIPPED} more files")
