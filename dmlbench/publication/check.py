"""What is wrong with entries, such as those of a pull request, which anybody may have written."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from dmlbench.errors import UserError
from dmlbench.publication.entries import Entry, read_entries, refusals
from dmlbench.publication.layout import MAX_BYTES
from dmlbench.results.row import BASELINES, EXTERNAL


class Checked(NamedTuple):
    """What was found: entries that can be read, those of a former protocol version, problems and warnings, as sentences."""

    n_entries: int
    n_former: int
    problems: list[str]
    warnings: list[str]


def check_entries(place: Path, base: Path | None = None) -> Checked:
    """Check entries, and optionally that they only add to those of another directory.

    Args:
        place: Directory of entries.
        base: Directory of the entries to which they are added, every file of which has to be in `place` unchanged.

    Raises:
        UserError: One of them is not a directory.
    """
    if base is not None and not base.is_dir():
        raise UserError(f"--base {base} is not a directory of entries")
    found = read_entries(place)
    entries = [*found.entries, *(one.entry for one in found.apart)]
    latest = datetime.now(UTC).date() + timedelta(days=1)  # it may be tomorrow where the publisher is
    problems = [
        *(f"{one.path} is refused: {one.reason}" for one in refusals(found)),
        *(f"{one.folder} is refused: {reason}" for one in entries if (reason := why_not_shown(one))),
        *(
            f"{one.folder} is refused: its published is {one.claim.published}, a day in the future"
            for one in entries
            if date.fromisoformat(one.claim.published) > latest
        ),
    ]
    if base is not None:
        problems += [] if entries else [f"{place} has no entries"]
        problems += _changes(place, base)
    former = sum(not one.is_duplicate for one in found.apart)
    return Checked(len(entries), former, problems, list(_copies(entries)))


def why_not_shown(entry: Entry) -> str:
    """Return why no page can show an entry, a clause; empty if pages can.

    Args:
        entry: Entry.
    """
    version = entry.row.get("protocol_version")
    if version is None or type(version) is int:
        return ""
    return f"its protocol_version is {str(version)[:40]!r}; it needs a whole number"


def _changes(place: Path, base: Path) -> Iterator[str]:
    """Yield what a directory of entries does besides adding entries. Links are not followed."""
    if place.is_symlink():
        yield f"{place} is a link"
    known = set()
    for path in _files(base):
        known.add(path)
        file = place / path
        if not os.path.lexists(file):
            yield f"{file} is deleted"
        elif file.is_symlink() or not file.is_file():
            yield f"{file} is no longer a regular file"
        elif not filecmp.cmp(base / path, file, shallow=False):
            yield f"{file} is changed"
    for path in _files(place):
        if path not in known and path.name not in MAX_BYTES:
            yield f"{place / path} is new and no file of an entry"


def _files(folder: Path) -> Iterator[Path]:
    """Yield the relative paths of everything that is no directory, and of empty directories, such as submodules."""
    left = [folder]
    while left:
        current = left.pop()
        with os.scandir(current) as listed:
            inside = sorted(listed, key=lambda one: one.name)
        folders = [Path(one.path) for one in inside if one.is_dir(follow_symlinks=False)]
        left += folders
        yield from (Path(one.path).relative_to(folder) for one in inside if Path(one.path) not in folders)
        if not inside and current != folder:
            yield current.relative_to(folder)


def _copies(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield entries of trained models that have exactly the scores of another method."""
    first: dict[tuple[object, str], Entry] = {}
    for entry in entries:
        row, scores = entry.row, entry.verdict.scores
        if not scores or row["loss"] in BASELINES or row["protocol"] == EXTERNAL:
            continue
        other = first.setdefault((row["dataset"], scores), entry)
        if other.row["method_digest"] != row["method_digest"]:
            yield f"{entry.folder} has the scores of another method, {other.folder}"
