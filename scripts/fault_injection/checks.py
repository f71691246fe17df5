"""What a directory contains after a command, and how that differs from an undisturbed run."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmlbench.errors import UserError
from dmlbench.results.row_files import read_row

# Digests of absolute paths, which differ between two directories.
_DIGEST_OF_PATHS = re.compile(r"(?<=data/)(.*)[0-9a-f]{16}")
# Hydra and submitit keep their own records of every execution.
_NOT_OURS = re.compile(r"\.submitit|multirun\.yaml|/\.hydra/")
MANY = 2  # files left over in one directory, which are listed by name
_TEMPORARY = re.compile(r"(?<=\w)\.tmp/.*")
_NOT_REPRODUCIBLE = ("seconds", "images_per_second", "n_resumed")


@dataclass(frozen=True)
class Contents:
    """What a command has produced.

    Args:
        rows: File of each row to its reproducible columns.
        torn: Files that should be rows, and cannot be read.
        files: Relative names of all files and of empty directories, without digests of absolute paths.
        products: Other reproducible files: name to a digest of their content.
        inodes: File of each row to the number of its inode, which changes if the row is written again.
    """

    rows: dict[str, dict[str, Any]]
    torn: tuple[str, ...]
    files: frozenset[str]
    products: dict[str, str]
    inodes: dict[str, int]

    @property
    def n_results(self) -> int:
        """Number of results: rows, or the trials of a search that has no row."""
        return len(self.rows) or sum("/trials/" in name and name.endswith(".json") for name in self.files)


def read_contents(folder: Path) -> Contents:
    """Read everything that a command has left in its directory.

    Args:
        folder: Working directory of the command.
    """
    rows, torn, products, inodes = {}, [], {}, {}
    names = set()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if _NOT_OURS.search(name) or (path.is_dir() and any(path.iterdir())):
            continue
        names.add(_DIGEST_OF_PATHS.sub(r"\1*", name))
        if path.name == "row.json":
            inodes[name] = path.stat().st_ino
            try:
                rows[name] = read_row(path).outcome
            except UserError as error:
                torn.append(f"{name}: {error}")
        elif name.startswith("runs/") and path.is_file() and (content := _reproducible(path)) is not None:
            products[name] = hashlib.sha256(content).hexdigest()
    return Contents(rows, tuple(torn), frozenset(names), products, inodes)


def _reproducible(path: Path) -> bytes | None:
    """The part of a file that every execution reproduces; None if there is none."""
    if path.suffix == ".safetensors" or path.name in ("classes.json", "class_groups.json"):
        return path.read_bytes()
    try:
        if path.suffix == ".jsonl":
            return json.dumps([_without_costs(json.loads(line)) for line in path.read_text().splitlines()]).encode()
        if "tune-" in str(path) and path.suffix == ".json":
            return json.dumps(_without_costs(json.loads(path.read_text()))).encode()
        if "tune-" in str(path) and path.suffix == ".csv":
            lines = list(csv.DictReader(path.read_text().splitlines()))
            return json.dumps([_without_costs(line) for line in lines]).encode()
    except ValueError as error:
        return f"{path.name} is torn: {error}".encode()
    return None


def _without_costs(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_costs(one) for key, one in value.items() if key not in _NOT_REPRODUCIBLE}
    return [_without_costs(one) for one in value] if isinstance(value, list) else value


def check_during(found: Contents, expected: Contents) -> list[str]:
    """Return what is wrong right after a fault: the rows that exist have to be complete and equal.

    Args:
        found: What a disturbed command has left.
        expected: What an undisturbed command has left.
    """
    problems = [f"torn: {one}" for one in found.torn]
    return problems + _differing_rows(found, expected)


def check_after(found: Contents, expected: Contents, before: Contents | None) -> list[str]:
    """Return what is wrong after the command has been run to its end.

    Args:
        found: What was left in the end.
        expected: What an undisturbed command has left.
        before: What was left by the disturbed command; None if nothing has to be kept.
    """
    problems = check_during(found, expected)
    problems += [f"lost: {name}" for name in sorted(set(expected.rows) - set(found.rows))]
    ids = Counter(Path(name).parent.name for name in found.rows)
    problems += [f"doubled: {name} has {n} rows" for name, n in ids.items() if n > 1 and "evaluate" not in name]
    problems += _left_over(found.files - expected.files)
    problems += [f"missing: {name}" for name in sorted(expected.files - found.files)]
    for name in sorted(set(expected.products) & set(found.products)):
        if expected.products[name] != found.products[name]:
            problems.append(f"different: {name}")
    if before is not None:
        again = [name for name, inode in before.inodes.items() if found.inodes.get(name, inode) != inode]
        problems += [f"doubled: {name} was written again" for name in again]
    return problems


def _left_over(names: Iterable[str]) -> list[str]:
    """One sentence per file, but only one for the files of a temporary directory, or for many files of any directory."""
    names = {_TEMPORARY.sub(".tmp", name) for name in names}
    folders = Counter(os.path.dirname(name) for name in names)
    many = [f"left over: {n} files in {folder}" for folder, n in sorted(folders.items()) if n > MANY]
    return many + [f"left over: {name}" for name in sorted(names) if folders[os.path.dirname(name)] <= MANY]


def _differing_rows(found: Contents, expected: Contents) -> list[str]:
    problems = []
    for name, row in found.rows.items():
        wanted = expected.rows.get(name)
        if wanted is None:
            problems.append(f"unexpected row: {name}")
        elif row != wanted:
            columns = [key for key in {*row, *wanted} if row.get(key) != wanted.get(key)]
            values = ", ".join(f"{key} {row.get(key)!r} instead of {wanted.get(key)!r}" for key in sorted(columns)[:3])
            problems.append(f"different: {name}: {values}")
    return problems
