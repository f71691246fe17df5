"""Tables of methods over class splits: whether an order of methods survives another choice of training and test classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError
from dmlbench.results.formatting import format_seeds
from dmlbench.results.row import BASELINES, Row
from dmlbench.tables.axis import Axis
from dmlbench.tables.caption import caption
from dmlbench.tables.confidence import t_interval
from dmlbench.tables.consistency import reasons
from dmlbench.tables.grouping import ORDER, group_except
from dmlbench.tables.ranks import ranks, spearman
from dmlbench.tables.row_labels import row_labels
from dmlbench.tables.table_row import Cell

# Shared columns in which the rows of a table may differ, with a value that stands for all of theirs.
_OF_SPLIT: dict[str, Scalar] = {"split_seed": None, "split_digest": None}


@dataclass(frozen=True)
class SplitRow:
    """One method over all splits.

    Args:
        label: Name in print, unique in the table.
        loss: Stem of the loss's file.
        scores: Mean over seeds for each split, a fraction; None if a run is missing or failed.
        ranks: Rank among the trained methods for each split, 1 for the best; None for baselines and missing scores.
        mean: Mean over splits with its 95 % Student t interval; None if a score is missing.
        notes: Footnotes, a clause each.
    """

    label: str
    loss: str
    scores: tuple[float | None, ...]
    ranks: tuple[int | None, ...]
    mean: Cell | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitTable:
    """Methods that differ in nothing but themselves and the class split.

    Args:
        metric: Metric that is printed.
        seeds: Value of `dataset.split_seed` for each split, ascending.
        rows: One row per method, baselines first.
        correlation: Mean over pairs of splits of Spearman's correlation of the scores of the trained methods; None if unknown.
        n_seeds: Number of seeds of each method and split, or the largest number.
        caption: Sentences above the table.
    """

    metric: str
    seeds: tuple[int, ...]
    rows: tuple[SplitRow, ...]
    correlation: float | None
    n_seeds: int
    caption: str


def compare_splits(rows: Sequence[Row], metric: str = "map_at_r") -> list[SplitTable]:
    """Make tables of methods over class splits.

    Args:
        rows: Result rows in any order.
        metric: Metric to print.

    Returns:
        One table for each set of rows that agree in every shared column except for the seed and the digest of the split.

    Raises:
        UserError: No rows differ in the split only, or no row has the metric.
    """
    groups = group_except(rows, _OF_SPLIT, metric)
    several = [group for group in groups if len({row.get("split_seed") for row, _ in group}) > 1]
    if not several:
        raise UserError(
            "no method has results on several class splits; run `dmlbench sweep sweep=splits`, then name the directory of its "
            "runs"
        )
    return [_table(group, metric) for group in several]


def _table(group: Sequence[tuple[Row, Row]], metric: str) -> SplitTable:
    rows = [row for row, _ in sorted(group, key=lambda pair: str(pair[0]["run_id"]))]
    seeds = tuple(sorted({int(seed) for row in rows if isinstance(seed := row.get("split_seed"), int)}))
    methods = _group_by_method(rows)
    labels = row_labels([one[0] for one in methods], Axis("loss"))
    made = [_row(label, one, seeds, metric) for label, one in zip(labels, methods, strict=True)]
    # The last sentence describes intervals over seeds, which are not printed.
    sentences = caption([without for _, without in group], Axis("loss"), {1}, "").rpartition(". ")[0]
    n_seeds = len({row.seed for row in rows if row.ok})
    return SplitTable(metric, seeds, tuple(_ranked(made)), _correlation(made), n_seeds, f"{sentences}.")


def _group_by_method(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each method over all splits, in printed order.

    The number of training classes is no hyper-parameter here, because it depends on the split. Tuned hyper-parameters may
    differ between splits, because each split has its own search.
    """
    by_loss: dict[str, list[Row]] = {}
    for row in rows:
        by_loss.setdefault(str(row["loss"]), []).append(row)
    found: dict[tuple[int, str, str], list[Row]] = {}
    for loss, same_loss in by_loss.items():
        counts = _class_counts(same_loss)
        position = ORDER.index(loss) if loss in ORDER else len(ORDER)
        for row in same_loss:
            method = (
                {} if row.get("tuning_trials") else {name: value for name, value in row.method.items() if name not in counts}
            )
            found.setdefault((position, loss, json.dumps(method, sort_keys=True)), []).append(row)
    return [found[key] for key in sorted(found)]


def _class_counts(rows: Sequence[Row]) -> set[str]:
    """Return the hyper-parameters of a loss that equal the number of training classes in all rows, such as `num_classes`."""
    known = [row for row in rows if row.get("n_train_classes") is not None]
    return {name for row in known for name in row.method if all(one.get(name) == one["n_train_classes"] for one in known)}


def _row(label: str, rows: Sequence[Row], seeds: Sequence[int], metric: str) -> SplitRow:
    scores: list[float | None] = []
    notes = []
    for seed in seeds:
        by_run_seed = {row.seed: row.number(metric) if row.ok else None for row in rows if row.get("split_seed") == seed}
        numbers = [value for value in by_run_seed.values() if value is not None]
        complete = bool(numbers) and len(numbers) == len(by_run_seed)
        scores.append(fmean(numbers) if complete else None)
        missing = sorted(run_seed for run_seed, value in by_run_seed.items() if value is None)
        if missing:
            of_split = [row for row in rows if row.get("split_seed") == seed]
            notes.append(f"{label}, split {seed}: no result for {format_seeds(missing)}{reasons(of_split)}")
        elif not complete:
            notes.append(f"{label}, split {seed}: no run")
    known = [score for score in scores if score is not None]
    mean = Cell(*t_interval(known)) if len(known) == len(scores) else None
    return SplitRow(label, str(rows[0]["loss"]), tuple(scores), (), mean, tuple(notes))


def _ranked(rows: Sequence[SplitRow]) -> list[SplitRow]:
    """Return the rows with the ranks of the trained methods."""
    n_splits = len(rows[0].scores)
    in_split = [ranks([None if row.loss in BASELINES else row.scores[split] for row in rows]) for split in range(n_splits)]
    return [replace(row, ranks=tuple(found[i] for found in in_split)) for i, row in enumerate(rows)]


def _correlation(rows: Sequence[SplitRow]) -> float | None:
    complete = [row.scores for row in rows if row.loss not in BASELINES and row.mean is not None]
    if len(complete) < 3:
        return None
    splits = [[score for score in column if score is not None] for column in zip(*complete, strict=True)]
    found = [spearman(first, second) for first, second in combinations(splits, 2)]
    known = [value for value in found if value is not None]
    return fmean(known) if len(known) == len(found) else None
