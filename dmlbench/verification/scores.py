"""Scores of single queries from which the metrics of a row are recomputed."""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dmlbench.results import run_files
from dmlbench.results.metric_specs import MACRO, parse_metric
from dmlbench.results.row import Row
from dmlbench.system.regular_files import open_regular

if TYPE_CHECKING:
    import numpy as np

EXACT = 1e-9  # largest difference of two means of float64 scores, whose sums may be in another order
SINGLE = 1e-6  # the same for scores that were saved in float32
MAX_BYTES = 2**29  # as `results.query_scores`: a million queries with twenty metrics have 96 MB
TOO_LARGE = "they do not fit into memory"
_OTHERS = frozenset(("ids", "labels"))
_DECIMALS = 6  # of scores that are compared with those of other runs


class ScoreSource(Protocol):
    """Scores of the Q evaluated queries of a row."""

    @property
    def tolerance(self) -> float:
        """Largest difference between a metric of the row and the mean of its scores, as a fraction."""

    @property
    def ids(self) -> np.ndarray:
        """Ids of the queries, integers `(Q,)`."""

    @property
    def labels(self) -> np.ndarray:
        """Labels of the queries, integers `(Q,)`."""

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the metrics that have scores."""

    def values(self, metric: str) -> np.ndarray:
        """Return the scores of a metric as fractions, float64 `(Q,)`.

        Args:
            metric: One of `metrics`.
        """


class FileScores:
    """The scores in the file that a run or an evaluation writes beside its row.

    Args:
        file: The file, `run_files.PER_QUERY`.

    Raises:
        OSError: It is not a regular file, or it is too large.
        ValueError: It is not a file of scores. The message is a clause.
    """

    def __init__(self, file: Path) -> None:
        from safetensors import SafetensorError, safe_open

        open_regular(file, MAX_BYTES).close()
        try:
            self._file: Any = safe_open(file, framework="numpy").__enter__()
        except SafetensorError as error:
            raise ValueError(f"it is damaged: {str(error).splitlines()[0]}") from None
        names = frozenset(self._file.keys())
        if not names >= _OTHERS:
            raise ValueError("it has no ids and labels")
        self.metrics = names - _OTHERS
        for name in _OTHERS:
            if self._array(name).dtype.kind not in "iu" or len(self._array(name)) != len(self.ids):
                raise ValueError(f"'{name}' does not have one integer for each query")

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the queries, integers `(Q,)`."""
        return self._array("ids")

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of the queries, integers `(Q,)`."""
        return self._array("labels")

    @cached_property
    def tolerance(self) -> float:
        """Largest difference between a metric of the row and the mean of its scores, as a fraction."""
        return EXACT if all(self._dtype(name) == "F64" for name in self.metrics) else SINGLE

    def values(self, metric: str) -> np.ndarray:
        """Return the scores of a metric as fractions, float64 `(Q,)`.

        Args:
            metric: One of `metrics`.

        Raises:
            ValueError: They are not one number for each query.
        """
        found = self._array(metric)
        if found.dtype.kind not in "fiub" or len(found) != len(self.ids):
            raise ValueError(f"'{metric}' does not have one number for each query")
        return found.astype("f8", copy=False)

    def _dtype(self, name: str) -> str:
        return str(self._file.get_slice(name).get_dtype())

    def _array(self, name: str) -> np.ndarray:
        try:
            found = self._file.get_tensor(name)
        except (TypeError, AttributeError, KeyError):  # dtypes that NumPy does not have
            raise ValueError(f"'{name}' has the dtype {self._dtype(name)}, which is none of a score") from None
        if found.ndim != 1:
            raise ValueError(f"'{name}' does not have one number for each query")
        return found


def scores_beside(row: Row) -> ScoreSource | None:
    """Read the scores of the queries of a row: those of a run, or the compact ones of a published entry.

    Args:
        row: Row with its directory.

    Returns:
        The scores; None if there is no file of scores.

    Raises:
        ValueError: A file cannot be read, or is none of scores. The message is a sentence.
    """
    for name in (run_files.PER_QUERY, run_files.COMPACT_SCORES):
        try:
            if row.folder is not None:
                file = row.folder / name
                return FileScores(file) if name == run_files.PER_QUERY else _read_compact(file, needed_metrics(row))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ValueError(f"{name} cannot be used: {error.strerror or error}") from None
        except ValueError as error:
            raise ValueError(f"{name} cannot be used: {error}") from None
        except MemoryError:
            raise ValueError(f"{name} cannot be used: {TOO_LARGE}") from None
    return None


def needed_metrics(row: Row) -> frozenset[str]:
    """Return the metrics of single queries from which the columns of a row follow.

    Args:
        row: Row.
    """
    return _needed(tuple(row.columns))


@lru_cache(256)
def _needed(columns: tuple[str, ...]) -> frozenset[str]:
    metrics = (name for name in columns if (metric := parse_metric(name)) is not None and metric.is_per_query)
    return frozenset(name.replace(MACRO, "", 1) for name in metrics)


def scores_digest(scores: ScoreSource) -> str:
    """Return a digest of the scores of all queries, which does not depend on the form of their file or on their order.

    Args:
        scores: Scores of the queries of a row.
    """
    import numpy as np

    order = np.argsort(scores.ids, kind="stable")
    found = hashlib.blake2b(np.stack([scores.ids[order], scores.labels[order]]).astype("<i8").tobytes(), digest_size=16)
    for metric in sorted(scores.metrics):
        rounded = np.round(scores.values(metric)[order], _DECIMALS) + 0.0  # no negative zeros
        found.update(metric.encode() + rounded.astype("<f8").tobytes())
    return found.hexdigest()


def _read_compact(file: Path, needed: frozenset[str]) -> ScoreSource:
    from dmlbench.results.compact_scores import read_compact_scores  # imports numpy

    return read_compact_scores(file, needed)
