"""The files of an entry, and the directory that belongs to a row: `<dataset>/<protocol>-v<n>/<method>/<run_id>/`."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from dmlbench.publication.names import directory_name
from dmlbench.results import run_files
from dmlbench.results.row import Row

CLAIM = "claim.yaml"  # who publishes the result, what supports it, and the digests of the other files; written last
EVAL_RESULTS = "eval_results.yaml"  # the metrics in the form of the Hugging Face Hub
DEPTH = 4  # directories from the root of the entries to an entry
# Largest number of bytes of each file; other files are refused.
MAX_BYTES = {
    run_files.ROW: 512 * 1024,
    run_files.COMPACT_SCORES: 64 * 1024**2,
    run_files.CLASSES: 16 * 1024**2,
    run_files.CLASS_GROUPS: 16 * 1024**2,
    CLAIM: 64 * 1024,
    EVAL_RESULTS: 64 * 1024,
}
MAX_VERSION = 10**6  # of a protocol
# Files that systems write into directories, and temporary files of `atomic_write` that a killed process has left.
_STRAY = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\.[a-z_]+\.(json|yaml|safetensors)\.(\d+|[0-9a-f]{8})\.tmp")
_RUN_ID = re.compile(r"[0-9a-f]{4,64}-[0-9a-f]{4,64}-\d{1,19}")


def entry_path(row: Row) -> PurePosixPath:
    """Return the directory of the entry of a row, relative to the root of the entries.

    Args:
        row: Row to publish.

    Raises:
        ValueError: Its run id is none, or the version of its protocol. The message is a clause.
    """
    run_id, version = str(row["run_id"]), row.get("protocol_version")
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"its run id is {run_id[:100]!r}; it consists of two digests and a seed")
    if type(version) is int and not 0 <= version <= MAX_VERSION:
        raise ValueError(f"its protocol_version is {str(version)[:40]}; it needs a number from 0 to {MAX_VERSION}")
    protocol = directory_name(str(row["protocol"])) + (f"-v{version}" if type(version) is int else "")
    return PurePosixPath(directory_name(str(row["dataset"])), protocol, directory_name(str(row["loss"])), run_id)


def is_stray(name: str) -> bool:
    """Return whether a file beside those of an entry is left over, and is neither read nor published.

    Args:
        name: Name of the file.

    >>> is_stray(".DS_Store"), is_stray(".row.json.0a1b2c3d.tmp"), is_stray("row.json.bak")
    (True, True, False)
    """
    return _STRAY.fullmatch(name) is not None


def is_entry(folder: Path) -> bool:
    """Return whether the directory of a row is that of a published entry, and not of a run.

    Args:
        folder: The directory.
    """
    return (folder / CLAIM).exists() or (folder / run_files.COMPACT_SCORES).exists()
