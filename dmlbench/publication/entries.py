"""Read published entries. Anybody may have written them: they are data, of which nothing is imported, built or executed.

Every file is a regular file of bounded size with a known name. Its SHA-256 is in the claim, and what follows from other files
is computed again. An entry that does not pass is skipped with a reason.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dmlbench.errors import UserError
from dmlbench.publication.claim import Claim
from dmlbench.publication.entry_files import read_entry_files
from dmlbench.publication.freshness import outdated
from dmlbench.publication.layout import CLAIM, DEPTH
from dmlbench.results import run_files
from dmlbench.results.query_scores import QueryScores, read_query_scores
from dmlbench.results.row import BASELINES, EXTERNAL, Row
from dmlbench.results.row_files import SkippedFile
from dmlbench.verification import Tier, Verdict, verify_row

_MARKS = (CLAIM, run_files.ROW)  # a directory with one of these is an entry
_BESIDE = ("README.md", ".gitattributes", ".gitkeep")  # files that may lie above entries


@dataclass(frozen=True)
class Entry:
    """One published result.

    Args:
        folder: Directory of its files.
        row: Its row, whose `folder` is the same.
        claim: What its publisher states.
        verdict: What `verify_row` found when the entry was read.
    """

    folder: Path
    row: Row
    claim: Claim = field(compare=False)
    verdict: Verdict = field(compare=False)

    @property
    def tier(self) -> Tier:
        """The tier in print: up to `consistent` as verified when the entry was read, above it as its publisher states."""
        verified = self.verdict.tier
        return self.claim.tier if verified is Tier.CONSISTENT and self.claim.tier.rank > verified.rank else verified

    def query_scores(self, metric: str) -> QueryScores | None:
        """Read the scores of the queries.

        Args:
            metric: Name of a metric.

        Returns:
            The scores; None if the entry has none of this metric.
        """
        return read_query_scores(self.folder / run_files.PER_QUERY, metric)


class ApartEntry(NamedTuple):
    """An entry that is shown apart from others, a clause that says why, and whether another one has the same results."""

    entry: Entry
    reason: str
    is_duplicate: bool = False


@dataclass(frozen=True)
class EntryList:
    """The entries below a directory.

    Args:
        entries: Current entries, in the order of their paths. Their verdicts may have findings.
        apart: Entries of a former version of their protocol, and those that share a run id, or scores with another seed.
        skipped: Files and directories that are no entries.
    """

    entries: tuple[Entry, ...] = ()
    apart: tuple[ApartEntry, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()


def read_entries(place: Path) -> EntryList:
    """Read all entries at or below a directory.

    Args:
        place: Root of the entries, a directory below it, or an entry.

    Raises:
        UserError: It is not a directory.
    """
    if not place.is_dir():
        raise UserError(f"{place} is not a directory of entries; `dmlbench publish RUNS --to {place}` creates it")
    folders, skipped = find_entries(place)
    found: list[Entry] = []
    for folder in folders:
        try:
            found.append(read_entry(folder))
        except (OSError, ValueError, UserError) as error:
            skipped.append(SkippedFile(str(folder), _reason(error)))
    apart = {one.entry.folder: one for one in _apart(found)}
    current = tuple(entry for entry in found if entry.folder not in apart)
    return EntryList(current, tuple(apart.values()), tuple(sorted(skipped)))


def read_entry(folder: Path) -> Entry:
    """Read one entry and verify its row.

    Args:
        folder: Directory of the entry.

    Raises:
        OSError, ValueError, UserError: It is no entry. The message of a ValueError is a clause.
    """
    row, claim, scores = read_entry_files(folder)
    return Entry(folder, row, claim, verify_row(row, scores))


def find_entries(place: Path) -> tuple[list[Path], list[SkippedFile]]:
    """Find the directories of entries, and files that belong to none. Links are not followed.

    Args:
        place: Directory to search.
    """
    found, skipped, left = [], [], [(place, DEPTH + 1)]
    while left:
        folder, depth = left.pop()
        try:
            with os.scandir(folder) as listed:
                inside = sorted(listed, key=lambda one: one.name)
        except OSError as error:
            skipped.append(SkippedFile(str(folder), error.strerror or str(error)))
            continue
        if any(one.name in _MARKS for one in inside):
            found.append(folder)
        elif not depth:
            skipped.append(SkippedFile(str(folder), "entries do not lie that deep"))
        else:
            left += [(Path(one.path), depth - 1) for one in inside if one.is_dir(follow_symlinks=False)]
            skipped += _misplaced(inside)
    return sorted(found), skipped


def _misplaced(inside: Iterable[os.DirEntry[str]]) -> Iterator[SkippedFile]:
    """Yield what lies above entries and does not belong there."""
    for one in inside:
        if one.is_symlink():
            yield SkippedFile(one.path, "it is a link")
        elif not one.is_dir() and one.name not in _BESIDE:
            yield SkippedFile(one.path, "it belongs to no entry")


def _apart(entries: Sequence[Entry]) -> Iterator[ApartEntry]:
    """Yield the entries that are shown apart."""
    by_id, by_scores = _grouped(entries, _run_id), _grouped(entries, _trained_scores)
    for entry in entries:
        if other := _other(entry, by_id[_run_id(entry)]):
            yield ApartEntry(entry, f"its run id is also that of {other.folder}", is_duplicate=True)
        elif other := _other(entry, by_scores[_trained_scores(entry)]):
            yield ApartEntry(entry, f"its scores are those of another seed, {other.folder}", is_duplicate=True)
        elif reason := outdated(entry.row):
            yield ApartEntry(entry, reason)


def _grouped(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> dict[Hashable, list[Entry]]:
    found = defaultdict(list)
    for entry in entries:
        found[key(entry)].append(entry)
    return found


def _other(entry: Entry, same: Sequence[Entry]) -> Entry | None:
    return next((one for one in same if one is not entry), None)


def _run_id(entry: Entry) -> Hashable:
    return entry.row["run_id"]


def _trained_scores(entry: Entry) -> Hashable:
    """Return a key that two entries share if training gave the same scores; unique for others, such as raw pixels."""
    row, scores = entry.row, entry.claim.files.get(run_files.COMPACT_SCORES)
    if scores is None or row["loss"] in BASELINES or row["protocol"] == EXTERNAL:
        return str(entry.folder)
    return row["fingerprint"], row["method_digest"], scores


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
