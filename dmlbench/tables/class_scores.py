"""Class means of methods, computed from the per-query scores beside their result rows.

Scores are used only if they belong to the rows and were computed on the same queries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmlbench.results import run_files
from dmlbench.results.metric_specs import MACRO, parse_metric
from dmlbench.results.query_scores import read_query_scores, scores_stamp
from dmlbench.results.row import Row
from dmlbench.tables.class_groups import ClassGroups, class_groups
from dmlbench.tables.significance_notes import OTHER_SCORES
from dmlbench.tables.unequal_weights import MIN_EFFECTIVE, effective_number
from dmlbench.tables.variance_components import Study

# Largest difference between a row's metric and the mean of its per-query scores, which are saved in single precision.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of methods on the same queries, averaged within each class.

    Args:
        labels: Labels of the classes, int `(C,)`.
        counts: Number of queries of each class, int `(C,)`.
        means: Mean score of each method, seed and class as a fraction, float64 `(M, S, C)`.
        macro: Whether all classes have the same weight; otherwise, the weight of a class is its number of queries.
        groups: Groups of the classes, which may be alike within a group; None if classes are taken as independent.
    """

    labels: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    macro: bool = False
    groups: ClassGroups | None = None

    @property
    def weights(self) -> np.ndarray:
        """Weight of each class in the mean of a method, float64 `(C,)` with sum 1."""
        return np.full(len(self.counts), 1 / len(self.counts)) if self.macro else self.counts / self.counts.sum()

    @property
    def study(self) -> Study:
        """The class means with their weights and groups, for the significance test."""
        return Study(self.means, self.weights, None if self.groups is None else self.groups.index)


def class_scores(methods: Sequence[Sequence[Row]], metric: str) -> tuple[ClassScores | None, str | None]:
    """Compute the class means of methods that have the same seeds.

    Args:
        methods: Rows of each method, one per seed.
        metric: Name of the metric; with the prefix `macro_`, all classes have the same weight.

    Returns:
        The class means, with seeds in the order of the rows, and None; or None, and a clause that says why there are none.
    """
    if len({tuple(sorted(str(row["seed"]) for row in rows)) for rows in methods}) > 1:
        return None, "the methods have different seeds"
    each, reason = class_scores_per_method(methods, metric)
    if each is None:
        return None, reason
    return replace(each[0], means=np.concatenate([scores.means for scores in each])), None


def class_scores_per_method(methods: Sequence[Sequence[Row]], metric: str) -> tuple[list[ClassScores] | None, str | None]:
    """Compute the class means of methods that may have different seeds.

    Args:
        methods: Rows of each method, one per seed.
        metric: Name of the metric; with the prefix `macro_`, all classes have the same weight.

    Returns:
        The class means of each method, with equal labels and counts, and None; or None, and a clause that says why there are
        none.
    """
    column = parse_metric(metric)
    if column is not None and column.spec.kind in ("clustering", "attributes"):
        return None, f"{column.spec.kind.removesuffix('s')} metrics have no per-query scores"
    plain = metric.replace(MACRO, "", 1)
    found = [[read_class_means(row, plain) for row in rows] for rows in methods]
    runs = [[run for run in each if run is not None] for each in found]
    if list(map(len, runs)) != list(map(len, methods)):
        return None, "per-query scores are missing"
    first = runs[0][0]
    if any(run.queries != first.queries for each in runs for run in each):
        return None, "the rows were not evaluated on the same queries"
    if len(first.labels) < 2:
        return None, "there is only one test class"
    groups, reason = class_groups([row for rows in methods for row in rows], first.labels)
    if reason is not None:
        return None, reason
    macro = plain != metric
    scores = [
        ClassScores(first.labels, first.counts, np.stack([run.means for run in each])[None], macro, groups) for each in runs
    ]
    effective = effective_number(scores[0].study.unit_weights)
    if groups is not None and effective < MIN_EFFECTIVE:
        return None, (
            f"a few groups contain most queries: the {groups.count} groups ({groups.kind}) are worth {effective:.1f} equal "
            f"ones, and the test needs {MIN_EFFECTIVE:.0f}"
        )
    for one, rows in zip(scores, methods, strict=True):
        # A comparison with NaN is false, so neither scores nor rows with NaN pass.
        expected = [math.nan if (value := row.number(metric)) is None else value for row in rows]
        if not np.allclose(one.means[0] @ one.weights, expected, rtol=0, atol=TOLERANCE):
            return None, OTHER_SCORES
    return scores, None


class RunClassMeans(NamedTuple):
    """Class means of one run: labels `(C,)`, ascending; means `(C,)`; counts `(C,)`; and a digest of ids and labels."""

    labels: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    queries: str


def has_scores(row: Row, metric: str) -> bool:
    """Return whether the scores of the queries of a row can be read.

    Args:
        row: Result row.
        metric: Name of the metric; with the prefix `macro_`, all classes have the same weight.
    """
    return read_class_means(row, metric.replace(MACRO, "", 1)) is not None


def read_class_means(row: Row, metric: str) -> RunClassMeans | None:
    """Read the per-query scores beside a row, and average them within each class.

    Args:
        row: Result row.
        metric: Name of the metric.

    Returns:
        The class means; None if the scores were not saved or cannot be read.
    """
    if row.folder is None:
        return None
    return _class_means(row.folder, metric, scores_stamp(row.folder / run_files.PER_QUERY))


@lru_cache(256)  # a ranking and the pictures of its entries read the same scores
def _class_means(folder: Path, metric: str, stamp: Hashable) -> RunClassMeans | None:
    """Read and average scores; they are read again if the stamp of their file has changed."""
    found = read_query_scores(folder / run_files.PER_QUERY, metric)
    if found is None:
        return None
    ids, labels, values = found
    order = np.argsort(ids, kind="stable")
    queries = np.stack([ids[order], labels[order]]).astype("<i8")
    unique, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.bincount(index, values) / counts
    for array in (unique, means, counts):
        array.setflags(write=False)
    return RunClassMeans(unique, means, counts, hashlib.sha256(queries.tobytes()).hexdigest())
