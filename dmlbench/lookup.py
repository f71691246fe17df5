"""Floor 3: from what a user types to the runs that it names.

A word is a place (a run's folder, its row.json, a folder that holds runs), or names folders below `runs/` by their parts, each
whole or as it begins: `triplet` is every run of that loss, `digits/triplet` those on one data set, `1681b04f-ffc8b99b` all
seeds of one method under one protocol, `1681b04f-ffc8b99b-0` one run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dmlbench.errors import UserError, suggest
from dmlbench.rows import CHECKPOINT, HISTORY, PLAN_FILE, ROW_FILE, WORDS, Row, is_shared, read_row
from dmlbench.screen import seeds_told
from dmlbench.unfinished import ERROR

_SIGNS = {ROW_FILE, PLAN_FILE, HISTORY, CHECKPOINT, ERROR, WORDS}  # of a run's folder, finished or not
_FOLD = re.compile(r"fold\d+")
_SCORED_AGAIN = "evaluate-"  # how the folder of a row of `dmlbench evaluate` begins
_MOST_LISTED, _MOST_VALUES = 8, 3


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Args:
        rows: one a seed, seeds ascending.
        name: words that name just these.
    """

    rows: tuple[Row, ...]
    name: str

    @property
    def first(self) -> Row:
        """Any of the rows, for what all have in common."""
        return self.rows[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(int(str(row["seed"])) for row in self.rows)

    @property
    def label(self) -> str:
        """Its method's name in print."""
        return str(self.first.get("loss_label") or self.first["loss"])


def folders(word: str, runs: Path) -> list[Path]:
    """The folders of the runs that a word names, finished or not.

    Args:
        word: a place, or names of folders below `runs`.
        runs: where to look.

    Returns:
        At least one; those of `dmlbench evaluate` only where the word names no others.

    Raises:
        UserError: there is none.
    """
    place = Path(word)
    if place.is_file():
        if place.name != ROW_FILE:
            raise UserError(f"{place} is no {ROW_FILE}; name a run's folder, its {ROW_FILE}, or a run's id")
        return [place.parent]
    if place.is_dir() and (found := _below(place)):
        return _first_hand(found, named="")
    if found := [folder for begun in _begun(place) for folder in _below(begun)]:
        return _first_hand(found, named=word)
    if place.is_absolute():
        raise UserError(f"{place} holds no run; name a folder that holds runs, or a run's id")
    everything = _below(runs) if runs.is_dir() else []
    if not everything:
        raise UserError(f"there is no run under {runs}; name a folder that holds runs, or say where they are: --runs DIR")
    wanted = (place.relative_to(runs) if runs in place.parents else place).parts
    told = {folder: _exactness(wanted, folder.relative_to(runs).parts) for folder in everything}
    best = max((exact for exact in told.values() if exact is not None), default=None)
    if best is None:
        raise UserError(f"{word} names no run under {runs}{_near(word, [folder.relative_to(runs) for folder in everything])}")
    return _first_hand([folder for folder, exact in told.items() if exact == best], named=word)


def one_folder(word: str, runs: Path) -> Path:
    """The folder of the one run that a word names, finished or not.

    Raises:
        UserError: there is none, or several.
    """
    found = folders(word, runs)
    if Path(word) in found:  # what was scored again lies below the run that it was made of
        return Path(word)
    if len(found) > 1:
        listed = "\n".join(f"  {str(folder).removeprefix(f'{runs}/')}" for folder in found[:_MOST_LISTED])
        more = f"\n  and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
        raise UserError(f"{word} names {len(found)} runs; name one of them:\n{listed}{more}")
    return found[0]


def pair(a: str, b: str, runs: Path) -> tuple[Group, Group]:
    """The two groups of runs that two words name together.

    Args:
        a: see `folders`.
        b: likewise; where one of them names several groups, the two that were made alike are meant, if they are the only ones.
        runs: where to look.

    Raises:
        UserError: a word names no finished run, or several groups; or both name the same.
    """
    named = {word: groups(word, runs) for word in (a, b)}
    pairs = [(one, other) for one in named[a] for other in named[b] if not _same(one, other)]
    if not pairs:
        raise UserError(
            f"{a} and {b} are the same runs ({named[a][0].label}, {seeds_told(named[a][0].seeds)}); name two that differ"
        )
    alike = [(one, other) for one, other in pairs if one.first.shared == other.first.shared]
    for found in (pairs, alike):
        if len(found) == 1:
            return found[0]
    word = max(named, key=lambda word: len(named[word]))
    raise UserError(f"{word} names {len(named[word])} kinds of runs; name one of them:\n{_listing(named[word])}")


def groups(word: str, runs: Path) -> list[Group]:
    """The finished runs that a word names, in groups that differ in the seed alone.

    Raises:
        UserError: there is none, a row cannot be read, or a seed is there twice with different numbers.
    """
    found = folders(word, runs)
    finished = [folder / ROW_FILE for folder in found if (folder / ROW_FILE).is_file()]
    if not finished:
        raise UserError(f"{found[0]} has no {ROW_FILE} yet, for the run has not ended; `dmlbench show {found[0]}` tells of it")
    kinds: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in map(read_row, finished):
        key = (json.dumps(row.shared, sort_keys=True), str(row["loss"]), str(row["method_digest"]))
        seeds = kinds.setdefault(key, {})
        first = seeds.setdefault(int(str(row["seed"])), row)
        if (first.ok, first.metrics) != (row.ok, row.metrics):
            raise UserError(f"{first.folder} and {row.folder} are the same run with different numbers; name one of them")
    return [Group(tuple(seeds[seed] for seed in sorted(seeds)), _name(list(seeds.values()), runs)) for seeds in kinds.values()]


def _begun(place: Path) -> list[Path]:
    """The folders whose path begins as typed: `runs/digits/triplet/1681b04f`; a bare word is no path."""
    if place.parent == Path() or not place.parent.is_dir():
        return []
    return sorted(folder for folder in place.parent.iterdir() if folder.name.startswith(place.name) and folder.is_dir())


def _below(place: Path) -> list[Path]:
    found = []
    for folder, inner, files in os.walk(place):
        inner[:] = sorted(name for name in inner if not _FOLD.fullmatch(name))
        if not _SIGNS.isdisjoint(files):
            found.append(Path(folder))
    return sorted(found)


def _first_hand(found: list[Path], named: str) -> list[Path]:
    """Without rows that were scored again, unless they are asked for or are all there is."""
    own = [folder for folder in found if not folder.name.startswith(_SCORED_AGAIN)]
    return found if _SCORED_AGAIN in named else own or found


def _exactness(wanted: Sequence[str], parts: Sequence[str]) -> int | None:
    """How many of the wanted names a path's parts hold whole; None where one is not even their beginning, in order."""
    exact, rest = 0, list(parts)
    for name in wanted:
        place = next((i for i, part in enumerate(rest) if part == name), None)
        exact += place is not None
        if place is None:
            place = next((i for i, part in enumerate(rest) if part.startswith(name)), None)
        if place is None:
            return None
        rest = rest[place + 1 :]
    return exact


def _near(word: str, places: Sequence[Path]) -> str:
    """What may have been meant: a method, with its data set or without, or a run; else all methods."""
    methods = {place.parent.name or place.name for place in places}
    near = suggest(word, methods | {str(place.parent) for place in places} | {place.name for place in places})
    return near if near.startswith("; did") else suggest(word, methods)


def _same(one: Group, other: Group) -> bool:
    if (one.first["method_digest"], one.first.shared) != (other.first["method_digest"], other.first.shared):
        return False
    return any(row.outcome == twin.outcome for row in one.rows for twin in other.rows)


def _name(rows: Sequence[Row], runs: Path) -> str:
    """Words for a group: its folder, without the seed where there are several."""
    folder = min(str(row.folder) for row in rows)
    inner = folder.removeprefix(f"{runs}/")
    run_id = str(rows[0]["run_id"])
    if len(rows) == 1 or not Path(inner).name.startswith(run_id.rpartition("-")[0]):
        return inner
    return inner.rpartition("-")[0]


def _listing(found: Sequence[Group]) -> str:
    """A line a group: its words, and what it has unlike the others."""
    lines = []
    for group in found[:_MOST_LISTED]:
        twins = [other.first for other in found if other.first["loss"] == group.first["loss"]]
        others = [other.first for other in found]
        told = [
            f"{re.sub('^loss_(make_)?', '', name)}={value}"
            for name, value in group.first.columns.items()
            if (is_shared(name) and _differs(name, others)) or (name.startswith("loss_make_") and _differs(name, twins))
        ]
        lines.append(f"  {group.name}  ({', '.join([group.label, *told[:_MOST_VALUES], seeds_told(group.seeds)])})")
    if len(found) > _MOST_LISTED:
        lines.append(f"  and {len(found) - _MOST_LISTED} more")
    return "\n".join(lines)


def _differs(column: str, rows: Sequence[Row]) -> bool:
    return len({repr(row.get(column)) for row in rows}) > 1 and "digest" not in column
