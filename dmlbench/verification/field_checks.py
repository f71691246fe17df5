"""Checks of the numbers in a row that need no other file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, TypeGuard

from dmlbench.config.schema import Scalar
from dmlbench.results.columns import column
from dmlbench.results.formatting import metric_label
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import LARGEST, ROUNDING, Row
from dmlbench.verification.metric_relations import Relation, relations
from dmlbench.verification.verdict import Finding

MAX_COUNT = 2**62
_DIGESTS = {"sha256": re.compile("[0-9a-f]{16,64}"), "digest": re.compile("[0-9a-f]{8,64}")}


class _Names(NamedTuple):
    """What is checked in rows with the same columns: metrics with their ranges and relations, counts, and others."""

    metrics: tuple[tuple[str, float, float], ...]
    relations: tuple[Relation, ...]
    counts: tuple[str, ...]
    not_negative: tuple[str, ...]
    separated: tuple[tuple[str, str], ...]
    folds: tuple[str, ...]
    digests: tuple[tuple[str, re.Pattern[str]], ...]


def field_findings(row: Row) -> Iterator[Finding]:
    """Yield numbers of a row that are impossible, alone or together.

    Args:
        row: Row.
    """
    names = _names(tuple(row.columns))
    yield from _status(row)
    yield from _forms(row, names)
    if row.ok:
        yield from _metrics(row, names)


def _forms(row: Row, names: _Names) -> Iterator[Finding]:
    """Check that counts are whole numbers, that costs are not negative, and that digests and times look like some."""
    for name in names.counts:
        value = row.columns[name]
        if value is not None and not (type(value) is int and 0 <= value <= MAX_COUNT):
            yield Finding(name, f"{name} is {value!r:.80}, which is not a whole number")
    if type(version := row.get("protocol_version")) is int and not 0 <= version <= MAX_COUNT:
        yield Finding("protocol_version", f"protocol_version is {version!r:.80}, which is no version")
    for name in names.not_negative:
        if (value := row.columns[name]) is not None and not (is_number(value) and value >= 0):
            yield Finding(name, f"{name} is {value!r:.80}, which is not a number of at least 0")
    for name, form in names.digests:
        value = row.columns[name]
        if value is not None and not (isinstance(value, str) and form.fullmatch(value)):
            yield Finding(name, f"{name} is {value!r:.80}, which is not a digest")
    try:
        if (finished := row.get("finished_at")) is not None:
            datetime.fromisoformat(str(finished))
    except ValueError:
        yield Finding("finished_at", f"finished_at is {finished!r:.80}, which is not a time")


@lru_cache(256)
def _names(columns: tuple[str, ...]) -> _Names:
    found = {name: metric for name in columns if (metric := parse_metric(name)) is not None}
    metrics = tuple((name, metric.spec.low - ROUNDING, metric.spec.high + ROUNDING) for name, metric in found.items())
    counts = tuple(name for name in columns if name.startswith("n_") or name.startswith("full_n_"))
    others = (name for name in columns if name not in counts)
    not_negative = tuple(name for name in others if column(name).role == "cost" or (name.endswith("_std") and _is_result(name)))
    separated = tuple(
        (name, plain) for name in columns if (plain := name.removeprefix("separated_")) != name and plain in columns
    )
    digests = tuple((name, _DIGESTS[end]) for name in columns if (end := name.rpartition("_")[2]) in _DIGESTS)
    folds = tuple(name for name in columns if name.startswith("fold") and name.endswith("_map_at_r"))
    return _Names(metrics, relations(tuple(found)), counts, not_negative, separated, folds, digests)


def _is_result(name: str) -> bool:
    return column(name).role == "result"


def is_number(value: Scalar) -> TypeGuard[int | float]:
    """Return whether a value is a number that can be computed with, and no boolean.

    Args:
        value: Value of a column.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _status(row: Row) -> Iterator[Finding]:
    status, reason = row["status"], row.get("reason")
    if status not in ("ok", "failed", "missing"):
        yield Finding("status", f"status is {status!r:.80}; known: ok, failed")
    elif row.ok != (reason is None):
        yield Finding("reason", f"status is {status}, but reason is {reason!r:.80}")
    with_results = [name for name, value in row.metrics.items() if value is not None]
    if not row.ok and with_results:
        yield Finding("status", f"status is {status}, but the row has {metric_label(with_results[0])}")
    if row.ok and not with_results:
        yield Finding("status", "status is ok, but the row has no metric")


def _metrics(row: Row, names: _Names) -> Iterator[Finding]:
    """Check the range of each metric, and relations between them."""
    values = {}
    for name, low, high in names.metrics:
        value = row.columns[name]
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            values[name] = value
        elif value is not None:
            limits = f"from {low + ROUNDING:g} to {high - ROUNDING:g}"
            yield Finding("range", f"{name} is {value!r:.80}, which is not a number {limits}")
    yield from _violated(values, names.relations)
    for name, plain in names.separated:
        if row.columns[name] != row.columns[plain]:
            yield Finding("metrics", f"{name} is not {plain}")
    if names.folds:
        yield from _folds(row, names.folds)


def metric_findings(row: Row, metrics: tuple[str, ...]) -> Iterator[Finding]:
    """Yield relations that some metrics of a row violate.

    Args:
        row: Row.
        metrics: Names of metrics.
    """
    values = {name: value for name in metrics if (value := row.number(name)) is not None}
    yield from _violated(values, relations(metrics))


def _violated(values: Mapping[str, float], known: Iterable[Relation]) -> Iterator[Finding]:
    for relation in known:
        try:
            if relation.is_violated(values):
                yield Finding("metrics", relation.message)
        except KeyError:  # a metric is missing, or out of range
            continue


def _folds(row: Row, names: Sequence[str]) -> Iterator[Finding]:
    """MAP@R with one model per fold is the mean over the models."""
    known = [value for name in names if (value := row.number(name)) is not None]
    mean = row.number("map_at_r")
    if row.get("protocol_fold") != "all":
        yield Finding("metrics", f"{names[0]} is of a model per fold, but protocol_fold is {row.get('protocol_fold')!r:.80}")
    elif len(known) != row.get("n_models") or mean is None or abs(math.fsum(known) / len(known) - mean) > ROUNDING:
        yield Finding("metrics", "MAP@R is not the mean over the models of the folds")
