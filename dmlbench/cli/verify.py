"""`dmlbench verify`: check how far results can be believed. Imports neither torch nor Hydra up to the tier `consistent`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dmlbench.cli.arguments import Parser, add_config_dir, add_runs_dir, allow_own_code, check_config_dir, path
from dmlbench.errors import UserError
from dmlbench.system.terminal import printable

if TYPE_CHECKING:
    from dmlbench.results.row import Row
    from dmlbench.results.row_files import SkippedFile
    from dmlbench.verification import Verdict

TIERS = ("consistent", "rescored", "re-embedded")
EXAMPLES = """\
verify                                      # every run below runs/
verify omniglot/triplet --tier rescored
verify results --json > tiers.json
verify results/cub --tier rescored --embeddings downloaded.safetensors
verify cub/triplet --tier re-embedded dataset.root=/data/cub
"""
DETAILS = """\
RUNS are chosen as in `dmlbench table`; a directory may also contain published entries. Each row has a tier:

  claimed      there are no scores of its queries to recompute its metrics from
  consistent   metrics recomputed from the scores of the queries; run id, fingerprint and digests from the
               columns; counts agree with the data set; nothing is impossible
  rescored     metrics recomputed from the embeddings of the run, or from --embeddings FILE
  re-embedded  embeddings recomputed from the model and the images
  retrained    a row of the same run from another machine agrees within the interval over seeds

A row that contradicts itself or its files is inconsistent; the exit status is then 1. A file that cannot be
read as a row counts as inconsistent too. Higher tiers need torch and take longer; --tier says how far to go.
Rows of the same run from other machines are compared if they are among RUNS. docs/verify.md lists the checks
and their tolerances.
"""
OVERRIDES = re.compile(r"[+~]*(dataset\.|trunk\.make\.|paths\.data=|device=|workers=)")


def make_parser() -> Parser:
    """Return the parser of the command."""
    description = "Check how far results can be believed: recompute what their rows say from the files beside them."
    parser = Parser("verify", "[RUNS ...] [options]", description, EXAMPLES, DETAILS, (), OVERRIDES)
    add = parser.add_argument
    add("selectors", nargs="*", metavar="RUNS", help="runs, or directories of published entries (default: all below runs/)")
    add("--tier", metavar="TIER", choices=TIERS, default="consistent", help=f"how far to verify: {', '.join(TIERS)}")
    add("--embeddings", metavar="FILE", type=path, help="embeddings of one row, such as a downloaded file, for --tier rescored")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add_runs_dir(parser)
    add_config_dir(parser, "directory of the configuration files and own code of the runs, for --tier re-embedded")
    return parser


def main(arguments: argparse.Namespace) -> int:
    """Verify every row, and print its tier."""
    from dmlbench.results.find_runs import select
    from dmlbench.results.row import MISSING
    from dmlbench.results.row_files import read_rows
    from dmlbench.runs.retrained import retrained
    from dmlbench.verification.row_groups import with_group_findings

    options = tuple(one for one in arguments.selectors if OVERRIDES.match(one) and "=" in one and not Path(one).exists())
    selectors = [one for one in arguments.selectors if one not in options]
    if options and arguments.tier != "re-embedded":
        raise UserError(f"{options[0]} says how images are read, which only --tier re-embedded does")
    paths = [found for selector in selectors for found in select(selector, arguments.runs)]
    rows, skipped = read_rows(*(paths or [arguments.runs]))
    unfinished = [row for row in rows if row["status"] == MISSING]
    rows = [row for row in rows if row["status"] != MISSING]
    if not rows and not skipped:
        raise UserError(
            f"there is no finished run below {', '.join(map(str, paths or [arguments.runs]))}; run `dmlbench sweep`"
        )
    verdicts = with_group_findings([_verified(row) for row in rows])
    if arguments.tier != "consistent":
        verdicts = _higher(verdicts, arguments, options)
    verdicts = retrained(verdicts)
    if arguments.json:
        print(json.dumps(_as_json(verdicts, skipped), indent=1, ensure_ascii=False))
    else:
        print("\n".join(map(printable, _lines(verdicts, skipped, len(unfinished)))))
    return 1 if skipped or not all(verdict.consistent for verdict in verdicts) else 0


def _verified(row: Row) -> Verdict:
    """Verify a row up to the tier `consistent`: that of a run with the files beside it, or that of a published entry."""
    from dmlbench.publication.entries import read_entry
    from dmlbench.publication.layout import CLAIM
    from dmlbench.verification import Finding, Tier, Verdict, verify_run
    from dmlbench.verification.row_checks import INCONSISTENT

    if row.folder is None or not (row.folder / CLAIM).exists():
        return verify_run(row)
    try:
        return read_entry(row.folder).verdict
    except (OSError, ValueError, UserError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return Verdict(row, Tier.CLAIMED, (Finding("entry", f"the entry is refused: {reason}"),), INCONSISTENT)


def _higher(verdicts: Sequence[Verdict], arguments: argparse.Namespace, options: tuple[str, ...]) -> list[Verdict]:
    """Evaluate embeddings again, and for the highest tier embed images again. The slow steps; they import torch."""
    from dmlbench.cli.errors import COMPOSE_ERRORS, translate_error
    from dmlbench.runs.verification import reembedded, rescored

    config_dir = check_config_dir(arguments.config_dir)
    if config_dir is not None:  # a run directory may come from somebody else, and so may the current directory
        allow_own_code(config_dir)
    usable = [verdict for verdict in verdicts if verdict.row.ok and verdict.consistent]
    if arguments.embeddings is not None and len(usable) != 1:
        raise UserError(f"--embeddings is for one row, but {len(usable)} are consistent; name the directory of one run")
    found = [rescored(verdict, arguments.embeddings) for verdict in verdicts]
    if arguments.tier != "re-embedded":
        return found
    try:
        return [reembedded(verdict, options, config_dir) for verdict in found]
    except COMPOSE_ERRORS as error:
        raise translate_error(error, list(options), config_dir) from error


def _as_json(verdicts: Iterable[Verdict], skipped: Iterable[SkippedFile]) -> dict[str, object]:
    rows = [
        {
            "path": str(verdict.row.folder),
            "run_id": verdict.row["run_id"],
            "status": verdict.row["status"],
            "consistent": verdict.consistent,
            "tier": str(verdict.tier),
            "findings": [finding._asdict() for finding in verdict.findings],
            "why_not_next": verdict.why_not_next,
        }
        for verdict in verdicts
    ]
    return {"rows": rows, "skipped": [one._asdict() for one in skipped]}


def _lines(verdicts: Sequence[Verdict], skipped: Sequence[SkippedFile], n_unfinished: int) -> Iterator[str]:
    """Yield the rows of each tier, with the reason why they did not reach the next one; inconsistent rows come last."""
    groups: dict[tuple[int, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.consistent:
            groups.setdefault((-verdict.tier.rank, str(verdict.tier), verdict.why_not_next), []).append(verdict)
    for (_, tier, reason), members in sorted(groups.items()):
        yield f"{tier}{f' ({reason})' if reason else ''}:"
        yield from (f"  {_name(verdict)}" for verdict in members)
    for verdict in verdicts:
        if not verdict.consistent:
            yield f"INCONSISTENT  {_name(verdict)}"
            yield from (f"  - {finding.message}" for finding in verdict.findings)
    for file, reason in skipped:
        yield f"UNREADABLE  {file}"
        yield f"  - {' '.join(reason.split())[:500]}"
    counts = [str(verdict.label) for verdict in verdicts] + ["unreadable"] * len(skipped)
    total = ", ".join(f"{counts.count(label)} {label}" for label in dict.fromkeys(sorted(counts)))
    also = f"; {n_unfinished} not finished" if n_unfinished else ""
    yield f"{len(counts)} row{'s' * (len(counts) != 1)}: {total}{also}"


def _name(verdict: Verdict) -> str:
    row = verdict.row
    return str(row["run_id"] if row.folder is None else row.folder)
