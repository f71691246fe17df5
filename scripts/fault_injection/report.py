"""The figures of a campaign, in markdown."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from .campaign import Attempt, Prepared
from .fuzz import Fuzzed

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_WRONG = ("lost", "torn", "doubled", "different", "left over")


def make(prepared: Mapping[str, Prepared], attempts: Sequence[Attempt], fuzzed: Sequence[Fuzzed], seconds: float) -> str:
    """Return the tables of a campaign.

    Args:
        prepared: The commands, by name.
        attempts: The attempts.
        fuzzed: What readers did with damaged files.
        seconds: How long the campaign took.
    """
    parts = [_summary(attempts, fuzzed, seconds)]
    groups = {
        "Kills": [one for one in attempts if "@" in one.fault and "full" not in one.fault and "~" not in one.fault],
        "Full disks": [one for one in attempts if "full@" in one.fault],
        "Clock jumps and wrong times of files, with a kill": [one for one in attempts if "~" in one.fault],
        "Several processes at once": [one for one in attempts if one.fault.startswith("writers=")],
    }
    for title, group in groups.items():
        if group:
            parts.append(f"**{title}**\n\n{_table(prepared, group)}")
    if fuzzed:
        columns = ("reader", "files", "refused in one sentence", "read", "other exceptions", "written outside", "beyond 5 s")
        rows = [(one.name, one.examples, one.refused, one.read, one.crashed, one.outside, one.slow) for one in fuzzed]
        parts.append("**Damaged files**\n\n" + tabulate(rows, columns, "github"))
    return "\n\n".join(parts)


def _summary(attempts: Sequence[Attempt], fuzzed: Sequence[Fuzzed], seconds: float) -> str:
    kills, files = sum(one.kills for one in attempts), sum(one.examples for one in fuzzed)
    wrong = sum(bool(one.problems) for one in attempts) + sum(bool(one.problems) for one in fuzzed)
    system = f"Python {sys.version.split()[0]}, {platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    return (
        f"{len(attempts):,} attempts with {kills:,} kills and {files:,} damaged files in {seconds / 60:.0f} minutes "
        f"({system}): {wrong} with problems."
    )


def _table(prepared: Mapping[str, Prepared], attempts: Sequence[Attempt]) -> str:
    rows = []
    for name in dict.fromkeys(one.kind for one in attempts):
        group = [one for one in attempts if one.kind == name]
        results = prepared[name].expected.n_results * len(group)
        counts = [sum(any(problem.startswith(word) for problem in one.problems) for one in group) for word in _WRONG]
        other = sum(bool(one.problems) for one in group) - sum(_is_counted(one) for one in group)
        rows.append((prepared[name].kind.title, len(group), sum(one.kills for one in group), results, *counts, other))
    total = ["all", *(sum(row[i] for row in rows) for i in range(1, len(rows[0])))]
    return tabulate([*rows, total], ("command", "attempts", "kills", "results", *_WRONG, "other"), "github", intfmt=",")


def _is_counted(attempt: Attempt) -> bool:
    return any(problem.startswith(_WRONG) for problem in attempt.problems)


def write(file: Path, figures: str) -> None:
    """Replace the figures of a page, between its two markers.

    Args:
        file: The page.
        figures: The figures.
    """
    text = file.read_text()
    before, _, rest = text.partition(BEGIN)
    file.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{rest.partition(END)[2]}")
