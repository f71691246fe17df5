"""`dmlbench publish`: pack runs as entries of a git repository. Imports neither torch nor Hydra up to the tier `consistent`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, add_runs_dir, path, print_error
from dmlbench.errors import UserError

if TYPE_CHECKING:
    from dmlbench.publication.pack import PackedEntry, Statement
    from dmlbench.results.row import Row
    from dmlbench.verification import Verdict

TIERS = ("consistent", "rescored")
MAX_LISTED = 20  # refused runs and entries that are printed
EXAMPLES = """\
publish omniglot --who "Jane Doe"           # every run on Omniglot, into results/
publish runs/cub --to results --who "Jane Doe" --paper-url https://arxiv.org/abs/2003.08505
publish 7e295878 --who "Jane Doe" --embeddings 'https://example.org/{run_id}.safetensors'
publish omniglot --who "Jane Doe" --tier rescored
publish --check results
publish --check new/results --base results  # what a pull request is checked with
"""
DETAILS = """\
RUNS are chosen as in `dmlbench table`. Each becomes a directory
DIR/<dataset>/<protocol>-v<version>/<method>/<run_id>/ with the row, the scores of its queries, the names of
its classes, and claim.yaml. Names of machines and local paths are taken out. What `dmlbench verify` refuses
is refused, and nothing is written then. The same command again changes nothing; with other options, it
updates the claims.

With --check, entries are read as the pages of results do, and nothing is written. The exit status is 1 if
one is refused or inconsistent, or has the run id of another one. Entries of a former version of their
protocol are shown apart from others. A warning names entries with the scores of another method.

With --base as well, DIR may only add entries to those of the base: links, deleted or changed files, other
new files, and a directory without entries are problems.
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Pack finished runs as entries, which anybody can check and a pull request adds to a repository."
    parser = Parser("publish", "[RUNS ...] [options]", description, EXAMPLES, DETAILS)
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUNS", help="which runs (default: all below runs/)")
    add("--to", metavar="DIR", type=path, default=Path("results"), help="root of the entries (default: results)")
    add("--who", metavar="NAME", help="who publishes them, such as a name or an account (required)")
    add("--licence", metavar="ID", default="CC-BY-4.0", help="SPDX identifier of their licence (default: CC-BY-4.0)")
    add("--paper", metavar="TEXT", help="authors, title and venue of the paper")
    add("--paper-url", metavar="URL", help="address of the paper")
    add("--code", metavar="URL", help="address of the code, if it is not dmlbench alone")
    add("--commit", metavar="REVISION", help="revision of the code (default: that of dmlbench in the row)")
    add("--embeddings", metavar="URL", help="where the embeddings are; {run_id} stands for the run id")
    add("--weights", metavar="URL", help="where the model is, likewise")
    add(
        *("--tier",),
        metavar="TIER",
        choices=TIERS,
        default="consistent",
        help="how far to verify the runs: consistent (default), or rescored, which evaluates their embeddings again",
    )
    add("--check", metavar="DIR", type=path, help="check the entries at or below DIR, instead of writing some")
    add("--base", metavar="DIR", type=path, help="with --check: directory whose entries have to be there unchanged")
    add_runs_dir(parser)
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Write entries, or check them."""
    if arguments.check is not None:
        return _check(arguments.check, arguments.base)
    if arguments.base is not None:
        raise UserError("--base belongs to --check")
    if not arguments.who:
        raise UserError('dmlbench publish needs the name of the publisher, such as --who "Jane Doe"')
    from dmlbench.publication.pack import write_entries

    verdicts = _verdicts(arguments.selectors, arguments.runs)
    if arguments.tier == "rescored":
        verdicts = _rescored(verdicts)
    packed = _pack(verdicts, _statement(arguments))
    if packed is None:
        return 1
    outcomes = write_entries(packed, arguments.to)
    counts = [f"{outcomes.count(one)} {one}" for one in ("written", "updated", "unchanged") if one in outcomes]
    size = sum(len(content) for one in packed for content in one.contents.values())
    print(f"{arguments.to} has {', '.join(counts)} {'entry' if len(packed) == 1 else 'entries'} ({size / 1e6:.2f} MB)")
    return 0


def _statement(arguments: argparse.Namespace) -> Statement:
    from dmlbench.publication.pack import Statement

    names = ("who", "licence", "paper", "paper_url", "code", "commit", "embeddings", "weights")
    return Statement(**{name: getattr(arguments, name) for name in names})


def _verdicts(selectors: Sequence[str], runs_dir: Path) -> list[Verdict]:
    """Verify the finished runs that are selected; others are skipped."""
    from dmlbench.cli.table import print_skipped
    from dmlbench.results.find_runs import select
    from dmlbench.results.row import MISSING
    from dmlbench.results.row_files import read_rows
    from dmlbench.verification.row_checks import verify_run

    paths = [found for selector in selectors for found in select(selector, runs_dir)]
    rows, skipped = read_rows(*(paths or [runs_dir]))
    print_skipped(skipped)
    finished: list[Row] = [row for row in rows if row["status"] != MISSING]
    if len(finished) < len(rows):
        print_error(f"skipped {len(rows) - len(finished)} runs that have not finished")
    if not finished:
        raise UserError(f"there is no finished run below {', '.join(map(str, paths or [runs_dir]))}")
    return [verify_run(row) for row in finished]


def _rescored(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Evaluate the embeddings of runs again. Imports torch."""
    from dmlbench.runs.verification import rescored
    from dmlbench.verification import Tier

    found = [rescored(verdict) for verdict in verdicts]
    _print_some(
        [
            f"{one.row.folder} is published as {one.tier}: {one.why_not_next}"
            for one in found
            if one.consistent and one.row.ok and one.tier is not Tier.RESCORED
        ]
    )
    return found


def _pack(verdicts: Sequence[Verdict], statement: Statement) -> list[PackedEntry] | None:
    """Pack all runs; None if one of them is refused, after the reasons were printed."""
    from dmlbench.publication.pack import pack
    from dmlbench.publication.scrub import local_columns

    packed, refused = [], []
    for verdict in verdicts:
        try:
            packed.append(pack(verdict, statement))
        except (OSError, ValueError) as error:
            refused.append(f"{verdict.row.folder} is not published: {error}")
    _print_some(refused)
    if refused:
        return None
    kept = sorted({f"{name}={verdict.row[name]}" for verdict in verdicts for name in local_columns(verdict.row)})
    _print_some([f"{one} stays in the entries, because the run id depends on it" for one in kept])
    return packed


def _check(place: Path, base: Path | None) -> int:
    """Print what is wrong with the entries at or below a directory."""
    from dmlbench.publication.check import check_entries

    found = check_entries(place, base)
    _print_some([*found.problems, *(f"warning: {one}" for one in found.warnings)])
    count, problems = found.n_entries, len(found.problems)
    has = f"{place} has {count} {'entry' if count == 1 else 'entries'}"
    has += f" ({found.n_former} of a former protocol version)" * (found.n_former > 0)
    print(f"{has}, and {problems or 'no'} problem{'s' * (problems != 1)}")
    return 1 if problems else 0


def _print_some(sentences: Sequence[str]) -> None:
    for sentence in sentences[:MAX_LISTED]:
        print_error(" ".join(sentence.split())[:600])
    if len(sentences) > MAX_LISTED:
        print_error(f"and {len(sentences) - MAX_LISTED} more")
