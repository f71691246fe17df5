"""Find the runs that a user names.

A selector is a path (a run directory, its row.json, or a directory that contains runs), or parts of the path of runs below the
runs directory, each complete or its beginning: `triplet` selects every run of that loss, `digits/triplet` those on one data
set, `1681b04f-ffc8b99b` all seeds of one method under one protocol, `1681b04f-ffc8b99b-0` one run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmlbench.errors import UserError, suggest
from dmlbench.results import run_files
from dmlbench.results.columns import column
from dmlbench.results.formatting import format_seeds
from dmlbench.results.row import Row
from dmlbench.results.row_files import read_row

# Files of a run directory, finished or not.
_SIGNS = {
    *(run_files.ROW, run_files.PENDING_ROW, run_files.HISTORY, run_files.CHECKPOINT, run_files.ERROR),
    *(run_files.OVERRIDES, run_files.OVERRIDES_SCHEMA_1),
}
_FOLD = re.compile(r"fold\d+")
_EVALUATION = "evaluate-"  # start of the directory of a row of `dmlbench evaluate`
_MAX_LISTED, _MAX_VALUES = 8, 3


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in their seed.

    Args:
        rows: One per seed, seeds ascending.
        name: Selector of exactly these runs.
    """

    rows: tuple[Row, ...]
    name: str

    @property
    def first(self) -> Row:
        """One of the rows, for what all have in common."""
        return self.rows[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(row.seed for row in self.rows)

    @property
    def label(self) -> str:
        """Name of the method in print."""
        return str(self.first.get("loss_label") or self.first["loss"])


def select(selector: str, runs_dir: Path) -> list[Path]:
    """Return the paths that a selector names, for `read_rows`.

    Args:
        selector: An existing path is returned as it is; otherwise, see the module.
        runs_dir: Directory of runs.

    Raises:
        UserError: It names no run.
    """
    path = Path(selector)
    return [path] if path.exists() else run_directories(selector, runs_dir)


def run_directories(selector: str, runs_dir: Path) -> list[Path]:
    """Return the directories of the runs that a selector names, finished or not.

    Args:
        selector: See the module.
        runs_dir: Directory of runs.

    Returns:
        At least one; directories of `dmlbench evaluate` only if the selector names no others.

    Raises:
        UserError: It names no run.
    """
    path = Path(selector)
    if path.is_file():
        if path.name != run_files.ROW:
            raise UserError(f"{path} is not a {run_files.ROW}; name a run directory, its {run_files.ROW}, or a run id")
        return [path.parent]
    if path.is_dir() and (found := _below(path)):
        return _without_evaluations(found, selector="")
    if found := [folder for beginning in _starting_with(path) for folder in _below(beginning)]:
        return _without_evaluations(found, selector)
    if path.is_absolute():
        raise UserError(f"{path} contains no run; name a directory that contains runs, or a run id")
    everything = _below(runs_dir) if runs_dir.is_dir() else []
    if not everything:
        raise UserError(f"there is no run below {runs_dir}; name a directory that contains runs, or set it with --runs DIR")
    wanted = (path.relative_to(runs_dir) if runs_dir in path.parents else path).parts
    exactness = {folder: _exactness(wanted, folder.relative_to(runs_dir).parts) for folder in everything}
    best = max((exact for exact in exactness.values() if exact is not None), default=None)
    if best is None:
        similar = _similar(selector, [folder.relative_to(runs_dir) for folder in everything])
        raise UserError(f"{selector} names no run below {runs_dir}{similar}")
    return _without_evaluations([folder for folder, exact in exactness.items() if exact == best], selector)


def one_folder(selector: str, runs_dir: Path) -> Path:
    """Return the directory of the one run that a selector names, finished or not.

    Raises:
        UserError: It names no run, or several.
    """
    found = run_directories(selector, runs_dir)
    if Path(selector) in found:  # evaluations are below the run that they belong to
        return Path(selector)
    if len(found) > 1:
        listed = "\n".join(f"  {str(folder).removeprefix(f'{runs_dir}/')}" for folder in found[:_MAX_LISTED])
        more = f"\n  and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
        raise UserError(f"{selector} names {len(found)} runs; name one of them:\n{listed}{more}")
    return found[0]


def pair(a: str, b: str, runs_dir: Path) -> tuple[SeedGroup, SeedGroup]:
    """Return the two groups of runs that two selectors name together.

    Args:
        a: Selector of the first method.
        b: Selector of the second. If one of them names several groups, the only comparable two are meant.
        runs_dir: Directory of runs.

    Raises:
        UserError: A selector names no finished run, or several groups; or both name the same.
    """
    named = {selector: seed_groups(selector, runs_dir) for selector in (a, b)}
    pairs = [(one, other) for one in named[a] for other in named[b] if not _same(one, other)]
    if not pairs:
        first = named[a][0]
        raise UserError(f"{a} and {b} are the same runs ({first.label}, {format_seeds(first.seeds)}); name two that differ")
    comparable = [(one, other) for one, other in pairs if one.first.shared == other.first.shared]
    for found in (pairs, comparable):
        if len(found) == 1:
            return found[0]
    selector = max(named, key=lambda one: len(named[one]))
    raise UserError(f"{selector} names {len(named[selector])} kinds of runs; name one of them:\n{_listing(named[selector])}")


def seed_groups(selector: str, runs_dir: Path) -> list[SeedGroup]:
    """Return the finished runs that a selector names, in groups that differ only in the seed.

    Raises:
        UserError: There is none, a row cannot be read, or a seed exists twice with different results.
    """
    found = run_directories(selector, runs_dir)
    finished = [folder / run_files.ROW for folder in found if (folder / run_files.ROW).is_file()]
    if not finished:
        raise UserError(f"{found[0]} has no {run_files.ROW} because the run has not finished; see `dmlbench show {found[0]}`")
    kinds: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in map(read_row, finished):
        key = (json.dumps(row.shared, sort_keys=True), str(row["loss"]), str(row["method_digest"]))
        first = kinds.setdefault(key, {}).setdefault(row.seed, row)
        if (first.ok, first.metrics) != (row.ok, row.metrics):
            raise UserError(f"{first.folder} and {row.folder} are the same run with different results; name one of them")
    return [
        SeedGroup(tuple(seeds[seed] for seed in sorted(seeds)), _selector_of(list(seeds.values()), runs_dir))
        for seeds in kinds.values()
    ]


def _starting_with(path: Path) -> list[Path]:
    """The directories whose path starts as typed: `runs/digits/triplet/1681b04f`. A single name is not a path."""
    if path.parent == Path() or not path.parent.is_dir():
        return []
    return sorted(folder for folder in path.parent.iterdir() if folder.name.startswith(path.name) and folder.is_dir())


def _below(path: Path) -> list[Path]:
    found = []
    for folder, inner, files in os.walk(path):
        inner[:] = sorted(name for name in inner if not _FOLD.fullmatch(name))
        if not _SIGNS.isdisjoint(files):
            found.append(Path(folder))
    return sorted(found)


def _without_evaluations(found: list[Path], selector: str) -> list[Path]:
    """Leave out directories of `dmlbench evaluate`, unless they are asked for or there are no others."""
    own = [folder for folder in found if not folder.name.startswith(_EVALUATION)]
    return found if _EVALUATION in selector else own or found


def _exactness(wanted: Sequence[str], parts: Sequence[str]) -> int | None:
    """How many of the wanted names are complete parts of a path; None if one is not even the beginning of one, in order."""
    exact, rest = 0, list(parts)
    for name in wanted:
        index = next((i for i, part in enumerate(rest) if part == name), None)
        exact += index is not None
        if index is None:
            index = next((i for i, part in enumerate(rest) if part.startswith(name)), None)
        if index is None:
            return None
        rest = rest[index + 1 :]
    return exact


def _similar(selector: str, paths: Sequence[Path]) -> str:
    """What may have been meant: a method, with or without its data set, or a run; otherwise all methods."""
    methods = {path.parent.name or path.name for path in paths}
    similar = suggest(selector, methods | {str(path.parent) for path in paths} | {path.name for path in paths})
    return similar if similar.startswith("; did") else suggest(selector, methods)


def _same(one: SeedGroup, other: SeedGroup) -> bool:
    if (one.first["method_digest"], one.first.shared) != (other.first["method_digest"], other.first.shared):
        return False
    return any(row.outcome == twin.outcome for row in one.rows for twin in other.rows)


def _selector_of(rows: Sequence[Row], runs_dir: Path) -> str:
    """A selector of a group: its directory, without the seed if there are several."""
    folder = min(str(row.folder) for row in rows)
    inner = folder.removeprefix(f"{runs_dir}/")
    run_id = str(rows[0]["run_id"])
    if len(rows) == 1 or not Path(inner).name.startswith(run_id.rpartition("-")[0]):
        return inner
    return inner.rpartition("-")[0]


def _listing(found: Sequence[SeedGroup]) -> str:
    """One line per group: its selector, and the values that distinguish it from the others."""
    lines = []
    for group in found[:_MAX_LISTED]:
        twins = [other.first for other in found if other.first["loss"] == group.first["loss"]]
        others = [other.first for other in found]
        values = [
            f"{re.sub('^loss_(make_)?', '', name)}={value}"
            for name, value in group.first.columns.items()
            if (column(name).role == "shared" and _differs(name, others))
            or (name.startswith("loss_make_") and _differs(name, twins))
        ]
        text = ", ".join([group.label, *values[:_MAX_VALUES], format_seeds(group.seeds)])
        lines.append(f"  {group.name}  ({text})")
    if len(found) > _MAX_LISTED:
        lines.append(f"  and {len(found) - _MAX_LISTED} more")
    return "\n".join(lines)


def _differs(name: str, rows: Sequence[Row]) -> bool:
    return len({repr(row.get(name)) for row in rows}) > 1 and "digest" not in name
