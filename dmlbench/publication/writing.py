"""Write packed entries into a directory. None is written if one of them would replace other results."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from dmlbench.errors import UserError
from dmlbench.publication.claim import Claim, claim_text, parse_claim
from dmlbench.publication.entries import read_entry
from dmlbench.publication.eval_results import eval_results_text
from dmlbench.publication.layout import CLAIM, EVAL_RESULTS, MAX_BYTES, is_stray
from dmlbench.results import run_files
from dmlbench.results.row import Row
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.own_directory import refuse_links
from dmlbench.system.regular_files import parse_json, read_bytes
from dmlbench.verification import Verdict
from dmlbench.verification.row_groups import same_scores

Outcome = Literal["written", "updated", "unchanged"]


class PackedEntry(NamedTuple):
    """An entry to be written: its directory below the root, the contents of its files, `claim.yaml` last, and its verdict."""

    path: Path
    contents: dict[str, bytes]
    verdict: Verdict


def with_claim(row: Row, claim: Claim, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the contents of an entry with the files that follow from its claim.

    Args:
        row: Row of the entry.
        claim: Its claim, whose digests of files are replaced.
        contents: Contents of the other files.
    """
    found = {**contents, EVAL_RESULTS: eval_results_text(row, claim).encode()}
    found.pop(CLAIM, None)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(found.items())}
    return {**found, CLAIM: claim_text(replace(claim, files=digests)).encode()}


def write_entries(packed: Iterable[PackedEntry], root: Path) -> list[Outcome]:
    """Write entries. None is written if one of them would replace other results.

    Args:
        packed: Entries to write.
        root: Root of the entries; created if missing.

    Returns:
        What happened to each. If several are of one run, the first one is written.

    Raises:
        UserError: There are other results of the same run, or the same scores with another seed, among the entries or below
            the root; or a directory is a link.
    """
    entries = list(packed)
    first: dict[Path, PackedEntry] = {}
    for one in entries:
        if first.setdefault(one.path, one).verdict.row.outcome != one.verdict.row.outcome:
            raise UserError(
                f"{_source(first[one.path])} and {_source(one)} are other results of the same run; publish one of them"
            )
    _refuse_same_scores(list(first.values()), root)
    dated = {path: _with_former_date(one, root) for path, one in first.items()}
    outcomes = {path: _write(one, root) for path, one in dated.items()}
    return [outcomes[one.path] if one is first[one.path] else "unchanged" for one in entries]


def _source(packed: PackedEntry) -> Path:
    return packed.verdict.row.folder or packed.path


def _refuse_same_scores(packed: Sequence[PackedEntry], root: Path) -> None:
    """Refuse entries with the scores of another seed, which may be one of them or have been published before."""
    verdicts = [*(one.verdict for one in packed), *_published_seeds(packed, root)]
    for index, other in same_scores(verdicts).items():
        if index < len(packed):
            where = verdicts[other].row.folder
            raise UserError(f"{_source(packed[index])} is not published: its scores are those of another seed, {where}")


def _published_seeds(packed: Sequence[PackedEntry], root: Path) -> list[Verdict]:
    """Return the verdicts of the entries of the same methods with other seeds. Unreadable ones are left out."""
    paths = {one.path for one in packed}
    methods = {path.parent / path.name.rpartition("-")[0] for path in paths}
    found = []
    for method in sorted(methods):
        for folder in sorted((root / method.parent).glob(f"{method.name}-*")):
            if folder.relative_to(root) not in paths:
                with suppress(OSError, ValueError, UserError):
                    found.append(read_entry(folder).verdict)
    return found


def _with_former_date(packed: PackedEntry, root: Path) -> PackedEntry:
    """Return an entry with the date of the one that it replaces, which has to have the same results."""
    folder = root / packed.path
    for above in packed.path.parents:
        if (root / above).is_symlink() and above != Path():
            raise UserError(f"{root / above} is a link, and nothing is written behind a link; remove it")
    refuse_links(folder, tuple(MAX_BYTES))
    try:
        former = _former(folder)
    except (OSError, ValueError, UserError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"{folder} cannot be replaced, because it is not known what it has: {reason}; delete it") from None
    if former.row is not None and former.row.outcome != packed.verdict.row.outcome:
        raise UserError(
            f"{folder} has other results of the same run; keep it, or delete it and publish again. A repetition on another "
            "machine is evidence for the tier `retrained`, not another entry"
        )
    if former.claim is None:
        return packed
    claim = replace(parse_claim(packed.contents[CLAIM].decode()), published=former.claim.published)
    return packed._replace(contents=with_claim(packed.verdict.row, claim, packed.contents))


class _Former(NamedTuple):
    """Row and claim of an entry that is to be replaced; None if the file is missing, as after a killed write."""

    row: Row | None
    claim: Claim | None


def _former(folder: Path) -> _Former:
    """Read what is known of an entry that is to be replaced. Its other files may be damaged."""
    row, claim = (_read(folder / name) for name in (run_files.ROW, CLAIM))
    unknown = [name for name in (os.listdir(folder) if folder.is_dir() else ()) if name not in MAX_BYTES and not is_stray(name)]
    if unknown:
        raise ValueError(f"it has the file {min(unknown)[:80]!r}, which no entry has")
    return _Former(
        None if row is None else Row(parse_json(row)),
        None if claim is None else parse_claim(claim.decode()),
    )


def _write(packed: PackedEntry, root: Path) -> Outcome:
    folder = root / packed.path
    former = {name: _content(folder / name) for name in MAX_BYTES}
    for name in os.listdir(folder) if folder.is_dir() else ():
        if is_stray(name):
            (folder / name).unlink(missing_ok=True)
    if {name: content for name, content in former.items() if content is not None} == packed.contents:
        return "unchanged"
    with suppress(FileNotFoundError):
        (folder / CLAIM).unlink()  # an entry without claim is none, until everything else is written
    for name in former.keys() - packed.contents.keys():
        (folder / name).unlink(missing_ok=True)
    for name, content in packed.contents.items():  # the claim is the last
        atomic_write(folder / name, content)
    return "updated" if any(former.values()) else "written"


def _read(file: Path) -> bytes | None:
    """Return the contents of a file; None if there is none."""
    try:
        return read_bytes(file, MAX_BYTES[file.name])
    except FileNotFoundError:
        return None


def _content(file: Path) -> bytes | None:
    try:
        return _read(file)
    except OSError:  # what is there is replaced
        return None
