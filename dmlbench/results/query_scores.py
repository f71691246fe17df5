"""Read the scores of single queries, which a run or an evaluation writes beside its row, and a published entry in few bytes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dmlbench.results import run_files
from dmlbench.system.regular_files import open_regular

if TYPE_CHECKING:
    import numpy as np

_KINDS = ("iu", "iu", "fiub")  # NumPy's kinds of dtype of ids, labels and scores
_MAX_BYTES = 2**29  # a million queries with twenty metrics have 96 MB


class QueryScores(NamedTuple):
    """One metric of Q queries: ids and labels, integers `(Q,)`, and scores as fractions, floats `(Q,)`."""

    ids: np.ndarray
    labels: np.ndarray
    values: np.ndarray


def read_query_scores(file: Path, metric: str) -> QueryScores | None:
    """Read the scores of the queries that have a relevant item; the others have none.

    Args:
        file: File of scores, `run_files.PER_QUERY`. If it does not exist, the compact scores beside it are read.
        metric: Name of the metric.

    Returns:
        The scores; None if they were not saved or cannot be read.
    """
    try:
        open_regular(file, _MAX_BYTES).close()
    except FileNotFoundError:
        return _read_compact(file.with_name(run_files.COMPACT_SCORES), metric)
    except OSError:
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as tensors:
            if not {metric, "labels", "ids"}.issubset(tensors.keys()):
                return None
            found = QueryScores(*(tensors.get_tensor(name) for name in ("ids", "labels", metric)))
    except (SafetensorError, OSError, TypeError, AttributeError):  # the last two for dtypes that NumPy does not have
        return None
    fits = all(array.ndim == 1 and array.shape == found.ids.shape for array in found)
    return found if fits and all(array.dtype.kind in kinds for array, kinds in zip(found, _KINDS, strict=True)) else None


def scores_stamp(file: Path) -> tuple[int, ...] | None:
    """Return numbers that change if scores are written again, such as for a memory of what was computed from them.

    Args:
        file: File of scores, as for `read_query_scores`.

    Returns:
        Inode number, size, and time of the last change; None if there are no scores.
    """
    for name in (file.name, run_files.COMPACT_SCORES):
        with suppress(OSError):
            found = file.with_name(name).lstat()
            return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return None


def _read_compact(file: Path, metric: str) -> QueryScores | None:
    """Return the scores of a metric from a file of compact scores; None if there are none."""
    from dmlbench.results.compact_scores import read_compact_scores

    try:
        scores = read_compact_scores(file)
    except (OSError, ValueError):
        return None
    return QueryScores(scores.ids, scores.labels, scores.values(metric)) if metric in scores.metrics else None
