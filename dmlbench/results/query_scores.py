"""Read the scores of single queries, which a run or an evaluation writes beside its row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
        file: File of scores, `run_files.PER_QUERY`.
        metric: Name of the metric.

    Returns:
        The scores; None if they were not saved or cannot be read.
    """
    try:
        open_regular(file, _MAX_BYTES).close()
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
