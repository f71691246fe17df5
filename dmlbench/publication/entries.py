"""Read published entries. Anybody may have written them: they are data, of which nothing is imported, built or executed.

Every file is a regular file of bounded size with a known name. Its SHA-256 is in the claim, and what follows from other files
is computed again. An entry that does not pass is skipped with a reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from dmlbench.errors import UserError
from dmlbench.publication.claim import Claim
from dmlbench.publication.entry_files import read_entry_files
from dmlbench.publication.freshness import outdated
from dmlbench.publication.layout import CLAIM, DEPTH, is_stray
from dmlbench.results import run_files
from dmlbench.results.query_scores import QueryScores, read_query_scores
from dmlbench.results.row import Row
from dmlbench.results.row_files import SkippedFile
from dmlbench.verification import Tier, Verdict, verify_row
from dmlbench.verification.row_groups import same_scores

NO_SCORES = f"it has no scores of single queries ({run_files.COMPACT_SCORES}), so nobody could check it"
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
    found = verified_entries(folders)
    return replace(found, skipped=tuple(sorted([*found.skipped, *skipped])))


def verified_entries(folders: Iterable[Path]) -> EntryList:
    """Read and verify entries, and compare them with each other.

    Args:
        folders: Their directories.
    """
    found: list[Entry] = []
    skipped: list[SkippedFile] = []
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
    try:
        row, claim, scores = read_entry_files(folder)
        return Entry(folder, row, claim, verify_row(row, scores))
    except MemoryError:
        raise ValueError("it is too large") from None


def refusals(found: EntryList) -> list[SkippedFile]:
    """Return the entries that a check refuses and tables leave out, with the reasons. Former versions are none of them.

    Args:
        found: What `read_entries` returned.
    """
    apart = [SkippedFile(str(one.entry.folder), one.reason) for one in found.apart if one.is_duplicate]
    entries = (*found.entries, *(one.entry for one in found.apart if not one.is_duplicate))
    wrong = [SkippedFile(str(one.folder), reason) for one in entries if (reason := _why_refused(one))]
    return sorted([*found.skipped, *apart, *wrong])


def _why_refused(entry: Entry) -> str:
    if entry.verdict.findings:
        return f"it is inconsistent: {entry.verdict.findings[0].message}"
    return NO_SCORES if entry.verdict.tier is Tier.CLAIMED else ""


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
        if is_stray(one.name):
            continue
        if one.is_symlink():
            yield SkippedFile(one.path, "it is a link")
        elif not one.is_dir() and one.name not in _BESIDE:
            yield SkippedFile(one.path, "it belongs to no entry")


def _apart(entries: Sequence[Entry]) -> Iterator[ApartEntry]:
    """Yield the entries that are shown apart."""
    by_id: dict[object, list[Entry]] = {}
    for entry in entries:
        by_id.setdefault(entry.row["run_id"], []).append(entry)
    same = same_scores([entry.verdict for entry in entries])
    for index, entry in enumerate(entries):
        if other := next((one for one in by_id[entry.row["run_id"]] if one is not entry), None):
            yield ApartEntry(entry, f"its run id is also that of {other.folder}", is_duplicate=True)
        elif index in same:
            yield ApartEntry(entry, f"its scores are those of another seed, {entries[same[index]].folder}", is_duplicate=True)
        elif reason := outdated(entry.row):
            yield ApartEntry(entry, reason)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
