"""Find the runs that a user names, and group those that differ only in the seed; see `run_selectors` for selectors."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmlbench.config.identity import digest
from dmlbench.errors import UserError
from dmlbench.results import run_files
from dmlbench.results.columns import column
from dmlbench.results.formatting import format_seeds, format_value
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_row
from dmlbench.results.run_selectors import MAX_LISTED, one_folder, run_directories, select

__all__ = ["SeedGroup", "one_folder", "pair", "run_directories", "seed_groups", "select"]


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed.

    Args:
        rows: One row per seed, seeds ascending.
        name: A selector that names exactly these runs.
    """

    rows: tuple[Row, ...]
    name: str

    @property
    def first(self) -> Row:
        """The first row, for columns that all rows have in common."""
        return self.rows[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(row.seed for row in self.rows)

    @property
    def label(self) -> str:
        """Name of the method in print."""
        return str(self.first.get("loss_label") or self.first["loss"])


def pair(a: str, b: str, runs_dir: Path) -> tuple[SeedGroup, SeedGroup]:
    """Return the two groups of runs that two selectors name together.

    If a selector names several groups, the only pair of comparable groups is chosen.

    Args:
        a: Selector of the first method.
        b: Selector of the second method.
        runs_dir: Directory of runs.

    Raises:
        UserError: A selector names no finished run, or the pair is ambiguous, or both selectors name the same runs.
    """
    groups = {selector: seed_groups(selector, runs_dir) for selector in (a, b)}
    pairs = [(one, other) for one in groups[a] for other in groups[b] if not _is_same(one, other)]
    if not pairs:
        first = groups[a][0]
        raise UserError(f"{a} and {b} are the same runs ({first.label}, {format_seeds(first.seeds)}); name two that differ")
    comparable = [(one, other) for one, other in pairs if one.first.shared == other.first.shared]
    for candidates in (pairs, comparable):
        if len(candidates) == 1:
            return candidates[0]
    selector = max(groups, key=lambda one: len(groups[one]))
    raise UserError(f"{selector} names {len(groups[selector])} kinds of runs; name one of them:\n{_listing(groups[selector])}")


def seed_groups(selector: str, runs_dir: Path) -> list[SeedGroup]:
    """Return the finished runs that a selector names, in groups that differ only in the seed.

    Args:
        selector: Selector.
        runs_dir: Directory of runs.

    Raises:
        UserError: There is none, a row cannot be read, or a seed exists twice with different results.
    """
    found = run_directories(selector, runs_dir)
    finished = [folder / run_files.ROW for folder in found if (folder / run_files.ROW).is_file()]
    if not finished:
        raise UserError(f"{found[0]} has no {run_files.ROW} because the run has not finished; see `dmlbench show {found[0]}`")
    groups: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in map(read_row, finished):
        key = (json.dumps(row.shared, sort_keys=True), str(row["loss"]), str(row["method_digest"]), digest(row.method))
        first = groups.setdefault(key, {}).setdefault(row.seed, row)
        if (first.ok, first.metrics) != (row.ok, row.metrics):
            raise UserError(f"{first.folder} and {row.folder} are the same run with different results; name one of them")
    return [
        SeedGroup(tuple(seeds[seed] for seed in sorted(seeds)), _selector_of(list(seeds.values()), runs_dir))
        for seeds in groups.values()
    ]


def _is_same(one: SeedGroup, other: SeedGroup) -> bool:
    """Whether two groups have the same method and shared columns, and a run with the same results."""
    if (digest(one.first.method), one.first.shared) != (digest(other.first.method), other.first.shared):
        return False
    return any(row.outcome == twin.outcome for row in one.rows for twin in other.rows)


def _selector_of(rows: Sequence[Row], runs_dir: Path) -> str:
    """Return a selector of a group: its directory, without the seed if there are several."""
    folder = min(str(row.folder) for row in rows)
    inner = folder.removeprefix(f"{runs_dir}/")
    run_id = str(rows[0]["run_id"])
    if len(rows) == 1 or not Path(inner).name.startswith(run_id.rpartition("-")[0]):
        return inner
    return inner.rpartition("-")[0]


def _listing(groups: Sequence[SeedGroup]) -> str:
    """Return one line per group: its selector, and the values that distinguish it from the others."""
    names = _distinguishing(groups)
    n_values = 0
    while n_values < len(names) and len({_described(group, names[:n_values]) for group in groups}) < len(groups):
        n_values += 1
    lines = [f"  {group.name}  ({_described(group, names[:n_values])})" for group in groups[:MAX_LISTED]]
    if len(groups) > MAX_LISTED:
        lines.append(f"  and {len(groups) - MAX_LISTED} more")
    return "\n".join(lines)


def _distinguishing(groups: Sequence[SeedGroup]) -> list[str]:
    """Return the columns in which groups differ: hyper-parameters of the same loss first, then shared columns."""
    firsts = [group.first for group in groups]
    names = dict.fromkeys(name for row in firsts for name in row.columns)
    by_loss = [[row for row in firsts if row["loss"] == loss] for loss in dict.fromkeys(row["loss"] for row in firsts)]
    method = [name for name in names if name.startswith("loss_") and name != "loss_label"]
    shared = [name for name in names if column(name).role == "shared"]
    return [
        *(name for name in method if any(_differs(name, rows) for rows in by_loss)),
        *(name for name in shared if _differs(name, firsts)),
    ]


def _described(group: SeedGroup, names: Sequence[str]) -> str:
    """Return the name, some values and the seeds of a group."""
    row = group.first
    values = [f"{re.sub('^loss_(make_)?', '', name)}={format_value(row[name])}" for name in names if name in row.columns]
    return ", ".join([group.label, *values, format_seeds(group.seeds)])


def _differs(name: str, rows: Sequence[Row]) -> bool:
    return len({repr(row.get(name)) for row in rows}) > 1 and "digest" not in name
