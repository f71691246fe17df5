"""The scores of single queries in few bytes, without loss, for published results; `score_packing` writes them.

All metrics of a query follow from few integers: the rank of the best relevant item, the number of relevant items among the
first k and among the first R, and R. Only MAP@R needs a float64. A data set with up to 256 classes and four values of k takes
17 bytes per query instead of 136. What the integers do not reproduce, such as expected values over the orders of tied items, is
stored beside them.

    first_id, or ids    ids of the queries, which are consecutive or not
    labels              labels of the queries
    n_models            number of models over which the scores are means; absent for one model
    best_rank           rank of the best relevant item; only for one model
    found_at_<k>        number of models that find a relevant item among the first k; only for several models
    hits_at_<k>         relevant items among the first k, summed over models
    hits_at_r           relevant items among the first R, summed over models
    n_relevant          R; 0 if no metric needs it
    <metric>            scores of a metric that does not follow from these
    <metric>.index      queries whose score does not follow from these, ascending positions
    <metric>.value      their scores

Names begin with the prefix of their metrics, `full_` or `concatenated_`. Integers have the smallest type that holds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from dmlbench.results.metric_specs import parse_metric
from dmlbench.system.regular_files import read_bytes

Tensors = Mapping[str, np.ndarray]

MAX_BYTES = 64 * 1024**2  # a million queries have 18 MB
MAX_SCORES = 2**26  # that are restored, 512 MB; a million queries with twenty metrics have 160 MB
# Largest difference between a metric and the mean of its scores, which may be summed in another order: in float64, and in
# float32, in which the scores of some runs are saved.
DOUBLE, SINGLE = 1e-9, 1e-6
INDEX, VALUE = ".index", ".value"
_parsed = lru_cache(4096)(parse_metric)  # thousands of entries have the same few names
_OTHERS = frozenset(("ids", "labels", "first_id", "n_models"))
_INTEGERS = (np.uint8, np.uint16, np.uint32, np.int64)
# Arrays from which each metric follows, without the prefix.
_SOURCES = {
    "recall_at_<k>": ("best_rank", "found_at_<k>"),
    "mean_reciprocal_rank": ("best_rank",),
    "precision_at_<k>": ("hits_at_<k>",),
    "retrieved_at_<k>": ("hits_at_<k>", "n_relevant"),
    "r_precision": ("hits_at_r", "n_relevant"),
}
_INTEGER_NAME = re.compile(r"(concatenated_)?(full_)?(best_rank|n_relevant|hits_at_r|(hits|found)_at_[1-9]\d*)")


class CompactScores:
    """Scores of Q queries, restored from their compact form.

    Args:
        tensors: Arrays by name, as in the description of the module. They may come from anywhere.
        needed: Metrics to restore; arrays that none of them needs are refused. None for all metrics.

    Raises:
        ValueError: They are no compact scores, or too many. The message is a clause.
    """

    def __init__(self, tensors: Tensors, needed: frozenset[str] | None = None) -> None:
        if needed is not None and (others := tensors.keys() - _arrays_of(needed)):
            raise ValueError(f"no column of the row needs its array {min(others)[:80]!r}")
        _check(tensors)
        self._tensors = tensors
        self.labels: np.ndarray = tensors["labels"].astype(np.int64)
        n_queries = len(self.labels)
        first = tensors.get("first_id")
        self.ids: np.ndarray = tensors["ids"].astype(np.int64) if first is None else np.arange(n_queries) + int(first[0])
        is_single = any(values.dtype.itemsize < 8 for values in tensors.values() if values.dtype.kind == "f")
        self.tolerance = SINGLE if is_single else DOUBLE
        self._n_models = int(tensors["n_models"][0]) if "n_models" in tensors else 1
        names = sorted(name for name in _candidates(tensors) if needed is None or name in needed)
        if len(names) * n_queries > MAX_SCORES:
            raise ValueError(f"it has scores of {len(names):,} metrics for {n_queries:,} queries, which are too many")
        restored = ((name, self._restored(name)) for name in names)
        self._values = {name: values for name, values in restored if values is not None}
        self.metrics = frozenset(self._values)
        for name, values in self._values.items():
            if (index := tensors.get(name + INDEX)) is not None:
                values[index] = tensors[name + VALUE]
            if len(values) and not (values.min() >= 0 and values.max() <= 1):
                raise ValueError(f"its scores of {name} are not from 0 to 1")
            values.setflags(write=False)

    def values(self, metric: str) -> np.ndarray:
        """Return the scores of a metric as fractions, float64 `(Q,)`.

        Args:
            metric: One of `metrics`.

        Raises:
            KeyError: There are no scores of this metric.
        """
        return self._values[metric]

    def _restored(self, metric: str) -> np.ndarray | None:
        """Return the scores of a metric except for exceptions; None if there are none."""
        if metric in self._tensors:
            return self._tensors[metric].astype(np.float64)
        column = _parsed(metric)
        if column is None:
            return None
        base, k = column.spec.name, column.k or 0
        prefix = metric.removesuffix(base.replace("<k>", str(k)))
        n_models = 1 if column.concatenated else self._n_models
        best, found, hits, n_relevant = (
            self._tensors.get(prefix + name) for name in ("best_rank", f"found_at_{k}", f"hits_at_{k or 'r'}", "n_relevant")
        )
        if base == "recall_at_<k>" and found is not None:
            return found / n_models
        if base == "recall_at_<k>" and best is not None:
            return ((best > 0) & (best <= k)).astype(np.float64)
        if base == "mean_reciprocal_rank" and best is not None:
            return divided(np.ones(len(best)), best)
        if base == "precision_at_<k>" and hits is not None:
            return hits / (k * n_models)
        if base == "retrieved_at_<k>" and hits is not None and n_relevant is not None:
            return divided(hits / (k * n_models) * k, n_relevant)  # in the order of `query_metrics`
        if base == "r_precision" and hits is not None and n_relevant is not None:
            return divided(hits / n_models, n_relevant)
        return None


def read_compact_scores(file: Path, needed: frozenset[str] | None = None) -> CompactScores:
    """Read a file of compact scores.

    Args:
        file: The file. It may come from anywhere.
        needed: As for `CompactScores`.

    Raises:
        OSError: It is not a regular file, or too large.
        ValueError: It is no file of compact scores. The message is a clause.
    """
    return parse_compact_scores(read_bytes(file, MAX_BYTES), needed)


def parse_compact_scores(content: bytes, needed: frozenset[str] | None = None) -> CompactScores:
    """Parse the contents of a file of compact scores.

    Args:
        content: Contents of the file. They may come from anywhere.
        needed: As for `CompactScores`.

    Raises:
        ValueError: They are no compact scores, or not in the form in which they are written. The message is a clause.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load, save

    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:  # the last three: dtypes that NumPy does not have
        raise ValueError(f"it is no safetensors file ({error})") from None
    if save(dict(tensors)) != content:  # other bytes would let two files with the same scores look different
        raise ValueError("it is not in the form that dmlbench writes")
    return CompactScores(tensors, needed)


def smallest(values: np.ndarray) -> np.ndarray:
    """Convert integers to the smallest type that holds them.

    Args:
        values: Integers, or floats without fractions.
    """
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    return values.astype(next(one for one in _INTEGERS if np.iinfo(one).min <= low and high <= np.iinfo(one).max))


def divided(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; 0 where the denominator is 0.

    Args:
        numerator: Numbers `(Q,)`.
        denominator: Numbers `(Q,)`.
    """
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator != 0)


@lru_cache(256)
def _arrays_of(metrics: Iterable[str]) -> frozenset[str]:
    """Return the names of all arrays from which some metrics may follow."""
    found = set(_OTHERS)
    for name in metrics:
        if (column := _parsed(name)) is not None:
            base, k = column.spec.name, str(column.k or 0)
            prefix = name.removesuffix(base.replace("<k>", k))
            found |= {name, name + INDEX, name + VALUE}
            found |= {prefix + one.replace("<k>", k) for one in _SOURCES.get(base, ())}
    return frozenset(found)


def _candidates(tensors: Tensors) -> set[str]:
    """Return the names of all metrics that may follow from some arrays."""
    found = set(tensors)
    for name in tensors:
        if parts := _INTEGER_NAME.fullmatch(name):
            prefix, k = name.removesuffix(parts[3]), parts[3].rpartition("_")[2]
            plain = ("mean_reciprocal_rank", "r_precision", *(f"{one}_at_{k}" for one in ("recall", "precision", "retrieved")))
            found |= {prefix + one for one in plain}
    return {name for name in found if _parsed(name) is not None}


def _check(tensors: Tensors) -> None:
    """Refuse arrays that are no compact scores."""
    if "labels" not in tensors or ("ids" in tensors) == ("first_id" in tensors):
        raise ValueError("it needs 'labels', and either 'ids' or 'first_id'")
    for name, values in tensors.items():
        metric, is_integer = name.removesuffix(INDEX).removesuffix(VALUE), _is_integer_name(name)
        if not is_integer and _parsed(metric) is None:
            raise ValueError(f"it has the unknown array {name[:80]!r}")
        if values.ndim != 1 or values.dtype.kind not in ("iu" if is_integer or name.endswith(INDEX) else "f"):
            raise ValueError(f"its array {name} has the type {values.dtype} and the shape {values.shape}")
        if values.dtype.kind == "f" and not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"its array {name} has values that are not from 0 to 1")
        _check_length(name, values, tensors)
    if "ids" in tensors and len(np.unique(tensors["ids"])) < len(tensors["ids"]):
        raise ValueError("an id occurs twice")


def _check_length(name: str, values: np.ndarray, tensors: Tensors) -> None:
    """Refuse an array whose length does not fit to the others."""
    n_queries = len(tensors["labels"])
    if name in ("first_id", "n_models"):
        if len(values) != 1 or values[0] < (name == "n_models") or values[0] > 2**62:
            raise ValueError(f"its array {name} needs one value, which is not negative")
    elif name.endswith(INDEX):
        index = values.astype(np.int64)
        others = tensors.get(name.removesuffix(INDEX) + VALUE, index[:0])
        if len(others) != len(index) or not (np.diff(index) > 0).all() or (index < 0).any() or (index >= n_queries).any():
            raise ValueError(f"its array {name} does not name the queries of the scores beside it")
    elif name.endswith(VALUE):
        if name.removesuffix(VALUE) + INDEX not in tensors:
            raise ValueError(f"its array {name} has no index")
    elif len(values) != n_queries:
        raise ValueError(f"its array {name} has {len(values):,} values for {n_queries:,} queries")


def _is_integer_name(name: str) -> bool:
    return name in _OTHERS or _INTEGER_NAME.fullmatch(name) is not None
