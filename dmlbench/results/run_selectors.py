"""Find the run directories that a selector names.

A selector is a path (a run directory, its row.json, or a directory that contains runs); or names in the path of runs below the
runs directory, each complete or abbreviated to its first characters. `triplet` selects all runs of that loss,
`digits/triplet` those on one data set, `1681b04f-ffc8b99b` all seeds of one method under one protocol, and
`1681b04f-ffc8b99b-0` one run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dmlbench.errors import UserError, suggest
from dmlbench.results import run_files

MAX_LISTED = 8
# Each run directory, finished or not, contains at least one of these files.
_RUN_FILES = {
    *(run_files.ROW, run_files.PENDING_ROW, run_files.HISTORY, run_files.CHECKPOINT, run_files.ERROR),
    *(run_files.OVERRIDES, run_files.OVERRIDES_SCHEMA_1),
}
_FOLD = re.compile(r"fold\d+")
_EVALUATION = "evaluate-"  # prefix of the directories that `dmlbench evaluate` writes


def select(selector: str, runs_dir: Path) -> list[Path]:
    """Return the paths that a selector names, for `read_rows`.

    Args:
        selector: Selector. An existing path is returned unchanged, except for a directory that contains no run while there is
            one of the same name below the directory of runs: the photos of a data set may have its name.
        runs_dir: Directory of runs.

    Raises:
        UserError: It names no run.
    """
    path = Path(selector)
    if not path.exists():
        return run_directories(selector, runs_dir)
    namesake = runs_dir / path
    is_other = path.is_dir() and namesake.is_dir() and namesake != path and not _runs_below(path)
    return [namesake if is_other else path]


def run_directories(selector: str, runs_dir: Path) -> list[Path]:
    """Return the directories of the runs that a selector names, finished or not.

    Args:
        selector: Selector.
        runs_dir: Directory of runs.

    Returns:
        At least one directory. Directories of `dmlbench evaluate` are included only if the selector names no others.

    Raises:
        UserError: It names no run.
    """
    path = Path(selector)
    if path.is_file():
        if path.name != run_files.ROW:
            raise UserError(f"{path} is not a {run_files.ROW}; name a run directory, its {run_files.ROW}, or a run id")
        return [path.parent]
    if path.is_dir() and (found := _runs_below(path)):
        return _without_evaluations(found, selector="")
    if found := [folder for start in _directories_starting_with(path) for folder in _runs_below(start)]:
        return _without_evaluations(found, selector)
    if path.is_absolute() and not path.exists():
        raise UserError(f"{path} does not exist; name a directory that contains runs, or a run id")
    if path.is_absolute():
        raise UserError(f"{path} contains no run; name a directory that contains runs, or a run id")
    return _without_evaluations(_best_matches(path, selector, runs_dir), selector)


def one_folder(selector: str, runs_dir: Path) -> Path:
    """Return the directory of the only run that a selector names, finished or not.

    Args:
        selector: Selector.
        runs_dir: Directory of runs.

    Raises:
        UserError: It names no run, or several.
    """
    found = run_directories(selector, runs_dir)
    if Path(selector) in found:  # the others are evaluations of this run, in directories below it
        return Path(selector)
    if len(found) > 1:
        listed = "\n".join(f"  {str(folder).removeprefix(f'{runs_dir}/')}" for folder in found[:MAX_LISTED])
        more = f"\n  and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        raise UserError(f"{selector} names {len(found)} runs; name one of them:\n{listed}{more}")
    return found[0]


def _best_matches(path: Path, selector: str, runs_dir: Path) -> list[Path]:
    """Return the runs below the runs directory that match with the largest number of complete names."""
    runs = _runs_below(runs_dir) if runs_dir.is_dir() else []
    if not runs:
        raise UserError(f"there is no run below {runs_dir}; name a directory that contains runs, or set it with --runs DIR")
    names = (path.relative_to(runs_dir) if runs_dir in path.parents else path).parts
    scores = {folder: _match(names, folder.relative_to(runs_dir).parts) for folder in runs}
    best = max((score for score in scores.values() if score is not None), default=None)
    if best is None:
        similar = _suggest_similar(selector, [folder.relative_to(runs_dir) for folder in runs])
        raise UserError(f"{selector} names no run below {runs_dir}{similar}")
    return [folder for folder, score in scores.items() if score == best]


def _directories_starting_with(path: Path) -> list[Path]:
    """Return the directories whose path starts with an abbreviated one: `runs/digits/triplet/1681b04f`.

    A single name is not treated as a path.
    """
    if path.parent == Path() or not path.parent.is_dir():
        return []
    return sorted(folder for folder in path.parent.iterdir() if folder.name.startswith(path.name) and folder.is_dir())


def _runs_below(path: Path) -> list[Path]:
    """Return all run directories at or below a path; directories of folds are parts of a run."""
    found, left = [], [str(path)]
    while left:  # not os.walk, which calls itself for every level
        folder = left.pop()
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError:
            continue
        left += [one.path for one in entries if one.is_dir(follow_symlinks=False) and not _FOLD.fullmatch(one.name)]
        if any(one.name in _RUN_FILES and not one.is_dir(follow_symlinks=False) for one in entries):
            found.append(Path(folder))
    return sorted(found)


def _without_evaluations(found: list[Path], selector: str) -> list[Path]:
    """Leave out directories of `dmlbench evaluate`, unless the selector names them or there are no others."""
    runs = [folder for folder in found if not folder.name.startswith(_EVALUATION)]
    return found if _EVALUATION in selector else runs or found


def _match(names: Sequence[str], parts: Sequence[str]) -> int | None:
    """Match names with the parts of a path, in order.

    Args:
        names: Names, each complete or the first characters of a part.
        parts: Parts of the path.

    Returns:
        The number of names that are complete parts; None if a name matches no part.
    """
    n_complete, rest = 0, list(parts)
    for name in names:
        index = next((i for i, part in enumerate(rest) if part == name), None)
        n_complete += index is not None
        if index is None:
            index = next((i for i, part in enumerate(rest) if part.startswith(name)), None)
        if index is None:
            return None
        rest = rest[index + 1 :]
    return n_complete


def _suggest_similar(selector: str, paths: Sequence[Path]) -> str:
    """Suggest a method, with or without its data set, or a run; if none is similar, list all methods."""
    methods = {path.parent.name or path.name for path in paths}
    similar = suggest(selector, methods | {str(path.parent) for path in paths} | {path.name for path in paths})
    return similar if similar.startswith("; did") else suggest(selector, methods)
