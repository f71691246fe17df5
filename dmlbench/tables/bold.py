"""Find what a table prints in bold: the best method in each metric, and every method that is not significantly worse."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dmlbench.results.formatting import format_percent, metric_label
from dmlbench.results.row import BASELINES, Row
from dmlbench.tables.consistency import Consistency
from dmlbench.tables.significance_notes import LEVEL_IN_PRINT, OTHER_SCORES, model_statement, power_remark

ONE_SEED = "nothing is bold, because one seed cannot tell methods apart"
NOT_TESTED = "nothing is bold, because significance was not tested"
NO_SCORES = "no scores of single queries, so it is neither tested nor bold"
INCONSISTENT = "Methods with an inconsistent result are neither tested nor bold"


@dataclass(frozen=True)
class Bold:
    """What a table prints in bold, and why.

    Args:
        best: Metric to the labels of the methods whose numbers are bold. Metrics without bold numbers are missing.
        meaning: Meaning of bold, or why nothing is bold, a clause for the caption; empty if there is nothing to compare.
        details: How the tests were done and what was not tested, one sentence each, without a full stop.
    """

    best: Mapping[str, frozenset[str]] = field(default_factory=dict)
    meaning: str = ""
    details: tuple[str, ...] = ()


def find_bold(
    labels: Sequence[str],
    methods: Iterable[Mapping[int, Row]],
    metrics: Sequence[str],
    test: bool,
    consistency: Consistency | None = None,
) -> Bold:
    """Find the methods to print in bold. Without two seeds per method, nothing is bold.

    Args:
        labels: Names of the methods.
        methods: Result rows of each method by seed.
        metrics: Printed metrics.
        test: Whether to test significance. Otherwise, the highest mean is bold.
        consistency: Rows that contradict themselves; their methods are neither tested nor bold. If the scores of queries do not
            match the rows, or no test compares them, they are checked. None if all rows are consistent.
    """
    consistency = consistency or Consistency(())
    by_label = {label: list(seeds.values()) for label, seeds in zip(labels, methods, strict=True)}
    found = _find(by_label, metrics, test, consistency)
    if test and (not found.best or any(OTHER_SCORES in one for one in found.details)):
        consistency.check_scores(row for rows in by_label.values() for row in rows)
        found = _find(by_label, metrics, test, consistency)
    excluded = not all(map(consistency.is_consistent, by_label.values()))
    return replace(found, details=(*found.details, INCONSISTENT)) if excluded else found


def _find(by_label: Mapping[str, Sequence[Row]], metrics: Sequence[str], test: bool, consistency: Consistency) -> Bold:
    by_label = {label: rows for label, rows in by_label.items() if consistency.is_consistent(rows)}
    trained = {label: rows for label, rows in by_label.items() if all(row.ok and row["loss"] not in BASELINES for row in rows)}
    if len(trained) < 2:
        return Bold()
    with_baseline = any(row["loss"] in BASELINES for rows in by_label.values() for row in rows)
    best_method = "best trained method" if with_baseline else "best method"
    if max(map(len, trained.values())) < 2:
        return Bold(meaning=ONE_SEED)
    if test:
        return _tested(trained, metrics, best_method)
    if min(map(len, trained.values())) < 2:
        return Bold(meaning=ONE_SEED)
    highest = {metric: found for metric in metrics if (found := _highest_mean(trained, metric))}
    return Bold(
        highest, f"bold marks the {best_method} by its mean alone: without a significance test, it may be best by chance"
    )


def _highest_mean(trained: Mapping[str, Sequence[Row]], metric: str) -> frozenset[str]:
    """Return the methods whose mean is the highest one as printed."""
    numbers = {label: [row.number(metric) for row in rows] for label, rows in trained.items()}
    means = {
        label: math.fsum(one for one in found if one is not None) / len(found)
        for label, found in numbers.items()
        if None not in found
    }
    highest = max(means.values(), default=0)
    return frozenset(label for label, mean in means.items() if format_percent(mean) == format_percent(highest))


def _tested(trained: Mapping[str, Sequence[Row]], metrics: Sequence[str], best_method: str) -> Bold:
    """Find the best method of each metric, and every method that is not significantly worse."""
    from dmlbench.tables.class_scores import has_scores  # imports numpy, which only tests need
    from dmlbench.tables.significance import not_significantly_worse

    best, reasons, counts, without = {}, {}, set(), dict[str, None]()
    tested = [row for rows in trained.values() for row in rows]
    for metric in metrics:
        complete = {label: rows for label, rows in trained.items() if all(row.number(metric) is not None for row in rows)}
        with_scores = {label: rows for label, rows in complete.items() if all(has_scores(row, metric) for row in rows)}
        if len(with_scores) > 1:
            without |= dict.fromkeys(complete.keys() - with_scores.keys())
            complete = with_scores
        labels_of_best, reason = not_significantly_worse(complete, metric)
        if reason is None:
            best[metric] = labels_of_best
            counts.add(len(next(iter(complete.values()))))
        else:
            reasons[metric] = reason
    meaning = f"bold marks the {best_method} and every method not significantly different from it" if best else NOT_TESTED
    left_out = [f"{', '.join(sorted(without))}: {NO_SCORES}"] if without else []
    return Bold(best, meaning, (*_test_details(counts, tested), *_untested(reasons, some=bool(best)), *left_out))


def _test_details(counts: Collection[int], rows: Sequence[Row]) -> list[str]:
    if not counts:
        return []
    n = " or ".join(map(str, sorted(counts)))
    return [f"Significance ({LEVEL_IN_PRINT}, n = {n} seeds): {model_statement(rows)}{power_remark(min(counts), rows)}"]


def _untested(reasons: Mapping[str, str], some: bool) -> list[str]:
    """Return why metrics were not tested, one sentence per reason; without their names if the reason holds for all."""
    metrics: dict[str, list[str]] = {}
    for metric, reason in reasons.items():
        metrics.setdefault(reason, []).append(metric_label(metric))
    if len(metrics) == 1 and not some:
        return [f"Significance was not tested: {reason}" for reason in metrics]
    return [
        f"Nothing is bold in {', '.join(names)}, because significance was not tested: {reason}"
        for reason, names in metrics.items()
    ]
