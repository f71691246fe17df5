"""Read the entries that a site shows."""

from __future__ import annotations

from pathlib import Path

from dmlbench.publication.check import why_not_shown
from dmlbench.publication.claim import Artifact, Claim
from dmlbench.publication.entries import read_entries
from dmlbench.results.row_files import SkippedFile
from dmlbench.site.entries import SiteEntry
from dmlbench.site.paths import entry_page, numbered


def read_site_entries(place: Path) -> tuple[list[SiteEntry], list[SkippedFile]]:
    """Read all entries below a directory.

    Args:
        place: Directory of entries.

    Returns:
        The entries, and files that are not entries, with paths below the directory.

    Raises:
        UserError: It is not a directory.
    """
    found = read_entries(place)
    skipped = [*found.skipped]
    pages: dict[str, int] = {}
    entries = []
    # Entries of a former version of their protocol are compared with each other, on a page of their own.
    apart = [(one.entry, one.reason if one.is_duplicate else "") for one in found.apart]
    for entry, reason in sorted([*((one, "") for one in found.entries), *apart], key=lambda pair: pair[0].folder.parts):
        if refusal := why_not_shown(entry):
            skipped.append(SkippedFile(str(entry.folder), refusal))
            continue
        page = entry_page(entry.row)
        pages[page] = number = pages.get(page, 0) + 1
        path = _relative(entry.folder, place)
        entries.append(SiteEntry(entry, _claim(entry.claim), path, numbered(page, number), _relative_text(reason, place)))
    return entries, [SkippedFile(_relative(Path(one.path), place), one.reason) for one in sorted(skipped)]


def _relative(path: Path, place: Path) -> str:
    """Return a path from the directory of all entries, with its name: paths of the machine are nobody's business."""
    return (Path(place.resolve().name) / path.relative_to(place)).as_posix()


def _relative_text(reason: str, place: Path) -> str:
    return reason.replace(f"{place}/", f"{place.resolve().name}/")


def _claim(claim: Claim) -> dict[str, str]:
    """Return what a claim states, without empty values."""
    values = {
        "published by": claim.who,
        "published": claim.published,
        "tier at publication": str(claim.tier),
        "paper": claim.paper,
        "paper address": claim.paper_url,
        "code": claim.code,
        "commit": claim.commit,
        "licence": claim.licence,
        **_artifact("embeddings", claim.embeddings),
        **_artifact("weights", claim.weights),
    }
    return {name: value for name, value in values.items() if value}


def _artifact(name: str, artifact: Artifact | None) -> dict[str, str]:
    return {} if artifact is None else {name: artifact.url, f"SHA-256 of the {name}": artifact.sha256}
