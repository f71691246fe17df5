"""Read and check the files of one entry, which anybody may have written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmlbench.publication import names
from dmlbench.publication.claim import Claim, parse_claim
from dmlbench.publication.eval_results import eval_results_text
from dmlbench.publication.layout import CLAIM, DEPTH, EVAL_RESULTS, MAX_BYTES, entry_path, is_stray
from dmlbench.results import run_files
from dmlbench.results.class_files import GROUPS_DIGEST, groups_digest
from dmlbench.results.compact_scores import CompactScores, parse_compact_scores
from dmlbench.results.row import Row
from dmlbench.system.regular_files import parse_json, read_bytes
from dmlbench.verification.scores import needed_metrics

_DIGEST_COLUMNS = {"embeddings": "embeddings_sha256", "weights": "model_sha256"}


class EntryFiles(NamedTuple):
    """The contents of an entry: its row, its claim, and the scores of its queries, None if it has none."""

    row: Row
    claim: Claim
    scores: CompactScores | None


def read_entry_files(folder: Path) -> EntryFiles:
    """Read the files of an entry, and check them against each other.

    Args:
        folder: Directory of the entry.

    Raises:
        OSError: A file cannot be read, is no regular file or is too large.
        ValueError: They are no entry. The message is a clause.
        UserError: Its row is none.
    """
    found = parse_entry(_read(folder), folder)
    _check_path(folder, found.row)
    return found


def parse_entry(contents: Mapping[str, bytes], folder: Path) -> EntryFiles:
    """Check the contents of the files of an entry against each other.

    Args:
        contents: Contents of each file.
        folder: Directory for the row.

    Raises:
        ValueError: They are no entry. The message is a clause.
        UserError: Its row is none.
    """
    claim = _parsed_claim(contents)
    for name in sorted({*contents, *claim.files} - {CLAIM}):
        _check_digest(name, contents.get(name), claim)
    columns = parse_json(contents[run_files.ROW])
    if not isinstance(columns, dict):
        raise ValueError(f"its {run_files.ROW} is not a JSON object")
    row = Row(columns, folder)
    check_row(row)
    for name, column in _DIGEST_COLUMNS.items():
        artifact = getattr(claim, name)
        if artifact is not None and row.get(column) not in (None, artifact.sha256):
            raise ValueError(f"the {name} of its {CLAIM} have another SHA-256 than its row ({column})")
    if contents[EVAL_RESULTS].decode() != eval_results_text(row, claim):
        raise ValueError(f"its {EVAL_RESULTS} does not follow from its row and its claim; publish the run again")
    scores = _parsed_scores(contents.get(run_files.COMPACT_SCORES), row)
    labels = None if scores is None else set(map(str, np.unique(scores.labels).tolist()))
    for name in (run_files.CLASSES, run_files.CLASS_GROUPS):
        if name in contents:
            _check_classes(name, contents[name], row, labels)
    return EntryFiles(row, claim, scores)


def check_row(row: Row) -> None:
    """Refuse a row whose text cannot be published.

    Args:
        row: Row of an entry, or one to be published.

    Raises:
        ValueError: Says which text. The message is a clause.
    """
    for name, value in row.columns.items():
        if not isinstance(value, str):
            continue
        reason = names.why_not_printable(value, MAX_BYTES[run_files.ROW])
        if name in names.IDENTIFIERS:
            reason = names.why_not_an_identifier(value)
        elif name in names.LABELS:
            reason = names.why_not_a_label(value)
        if reason:
            raise ValueError(f"its {name} {reason}")


def _read(folder: Path) -> dict[str, bytes]:
    """Read all files; a directory, a link or an unknown file is refused before anything is opened.

    Files that the system or a killed write leaves are not opened.
    """
    listed = sorted(name for name in os.listdir(folder) if not is_stray(name))
    if unknown := [name for name in listed if name not in MAX_BYTES]:
        raise ValueError(f"it has the file {unknown[0][:80]!r}, which no entry has")
    if missing := [name for name in (CLAIM, run_files.ROW, EVAL_RESULTS) if name not in listed]:
        raise ValueError(f"it has no {missing[0]}")
    try:
        return {name: read_bytes(folder / name, MAX_BYTES[name]) for name in listed}
    except OSError as error:
        raise ValueError(f"its {Path(str(error.filename)).name}: {error.strerror}") from None


def _parsed_claim(contents: Mapping[str, bytes]) -> Claim:
    try:
        return parse_claim(contents[CLAIM].decode())
    except UnicodeDecodeError:
        raise ValueError(f"{CLAIM}: it is not text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{CLAIM}: {error}") from None


def _check_digest(name: str, content: bytes | None, claim: Claim) -> None:
    if content is None:
        raise ValueError(f"its {CLAIM} lists the file {name[:80]!r}, which it does not have")
    if name not in claim.files:
        raise ValueError(f"its {CLAIM} does not list the file {name}")
    if hashlib.sha256(content).hexdigest() != claim.files[name]:
        raise ValueError(f"its {name} is not the file that was published: its SHA-256 is not that of {CLAIM}")


def _check_path(folder: Path, row: Row) -> None:
    expected, parts = entry_path(row).parts, Path(os.path.abspath(folder)).parts[-DEPTH:]
    if parts != expected:
        raise ValueError(f"its directory is {'/'.join(parts)}, and that of its row is {'/'.join(expected)}")


def _parsed_scores(content: bytes | None, row: Row) -> CompactScores | None:
    try:
        return None if content is None else parse_compact_scores(content, needed_metrics(row))
    except ValueError as error:
        raise ValueError(f"{run_files.COMPACT_SCORES}: {error}") from None


def _check_classes(name: str, content: bytes, row: Row, labels: set[str] | None) -> None:
    """Refuse names or groups of classes that are not those of the queries."""
    values = parse_json(content)
    if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
        raise ValueError(f"its {name} does not map labels to text")
    for text in values.values():
        if reason := names.why_not_printable(names.with_plain_spaces(text)):
            raise ValueError(f"its {name} has a name that {reason}")
    if labels is not None and (not labels <= set(values) or (labels < set(values) and _all_classes_are_queries(row))):
        raise ValueError(f"its {name} has other classes than its queries")
    if name == run_files.CLASS_GROUPS and row.get(GROUPS_DIGEST) not in (None, groups_digest(values)):
        raise ValueError(f"its {name} has other groups than its row ({GROUPS_DIGEST})")


def _all_classes_are_queries(row: Row) -> bool:
    """Whether the queries are the gallery and none was left out. Otherwise, classes may have no query."""
    counts = [row.get(name) for name in ("n_train_images", "n_query_images", "n_gallery_images", "n_images")]
    train, query, gallery, images = (count if isinstance(count, int) else 0 for count in counts)
    return train + query + gallery > images > 0 and row.get("n_queries") == query and row.get("n_excluded") == 0
