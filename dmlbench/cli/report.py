"""`dmlbench report`: write tables, pictures and provenance into one HTML file. Only runs of an earlier version need torch."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, add_config_dir, add_runs_dir, allow_own_code, check_config_dir, path, print_error
from dmlbench.errors import UserError

if TYPE_CHECKING:
    from dmlbench.report.query_pictures import FindImages
    from dmlbench.results.row import Row
    from dmlbench.results.run_images import RunImages

SUFFIXES = (".html", ".htm")
EXAMPLES = """\
report                                      # every run below runs/, into report.html
report omniglot --output omniglot.html
report cub/triplet cub/arcface --title "Triplet or ArcFace"
report cub dataset.root=elsewhere/cub       # where the images are now
report cub --no-images                      # tables and pictures of the numbers only
"""
DETAILS = """\
RUNS are chosen as in `dmlbench table`, and its tables are the same. The file needs no network: it contains
styles, script and small copies of a few images. Its script is allowed by a content security policy; nothing
from the runs is executed.

Images outside of the current directory have to be named: dataset.root=DIR, or paths.data=DIR. Without them
the report has no pictures of queries, and says so. Runs that have not finished, and files that are not rows,
are listed in the report.
"""
# Overrides that say where the images of the runs are. For runs of an earlier version, the data set is read again.
OVERRIDES = re.compile(r"[+~]*(dataset\.|paths\.data=)")


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Write fair tables, pictures and provenance of runs into one self-contained HTML file."
    parser = Parser("report", "[RUNS ...] [options]", description, EXAMPLES, DETAILS, ("vary",), OVERRIDES)
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUNS", help="which runs (default: all below runs/)")
    add("--output", metavar="FILE", type=path, default=Path("report.html"), help="file to write (default: report.html)")
    add("--title", metavar="TEXT", help="title of the page (default: the names of the data sets)")
    add("--vary", metavar="AXIS", default="loss", help="what may differ between the rows of a table, as in `dmlbench table`")
    add("--metrics", metavar="METRIC,METRIC", help="metrics to print (default: those of `dmlbench table`)")
    add(
        *("--published",),
        metavar="WHICH",
        default="same",
        choices=("none", "same", "all"),
        help="published results to print below a line: same (default), all or none",
    )
    add(
        *("--projection",),
        metavar="METHOD",
        default="pca",
        choices=("pca", "umap"),
        help="projection of embeddings: principal components (pca, default), or umap, which needs `pip install umap-learn`",
    )
    add("--no-images", action="store_true", help="leave out the pictures of queries")
    add_runs_dir(parser)
    add_config_dir(parser, "also read published results in DIR/published; own code of runs of an earlier version")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Write the report."""
    _check_output(arguments.output)
    _check_extra(arguments.projection)
    from dmlbench.report.contents import Options
    from dmlbench.report.write import write_report
    from dmlbench.results.find_runs import select

    config_dir = check_config_dir(arguments.config_dir)
    typed = [one for one in arguments.selectors if OVERRIDES.match(one) and "=" in one]
    selectors = [one for one in arguments.selectors if one not in typed]
    options = Options(
        vary=arguments.vary,
        metrics=tuple(name.strip() for name in (arguments.metrics or "").split(",") if name.strip()),
        published=arguments.published,
        config_dir=config_dir,
        projection=arguments.projection,
        find_images=None if arguments.no_images else _image_finder(typed, config_dir),
    )
    paths = [found for selector in selectors for found in select(selector, arguments.runs)]
    contents = write_report(paths or [arguments.runs], arguments.output, options, arguments.title or "")
    size = arguments.output.stat().st_size
    tables = len(contents.sections)
    print(f"{arguments.output} has {tables} table{'s' * (tables != 1)} of {contents.n_runs} runs ({size / 1e6:.1f} MB)")
    for problem in contents.problems:
        print_error(problem.removesuffix("."))
    return 0


def _check_output(output: Path) -> None:
    if output.suffix not in SUFFIXES:
        raise UserError(f"--output {output} needs the suffix {' or '.join(SUFFIXES)}")
    if output.is_dir():
        raise UserError(f"--output {output} is a directory; name a file in it")
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: {output.parent} is not a directory")


def _check_extra(projection: str) -> None:
    if projection == "umap" and find_spec("umap") is None:
        raise UserError("--projection umap needs UMAP: pip install umap-learn; or use --projection pca")
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise UserError(f"dmlbench report needs jinja2: pip install 'dmlbench[report]' ({error})") from None


def _image_finder(options: Sequence[str], config_dir: Path | None) -> FindImages:
    """Return a function that finds the images of a run."""

    def find(row: Row) -> RunImages:
        from dmlbench.runs.image_list import find_images

        if config_dir is not None:
            allow_own_code(config_dir)
        try:
            return find_images(row, options, config_dir)
        except UserError:
            raise
        except Exception as error:
            from dmlbench.cli.errors import COMPOSE_ERRORS, translate_error

            if isinstance(error, COMPOSE_ERRORS):
                raise translate_error(error, list(options), config_dir) from error
            raise

    return find
