"""Find what a table prints in bold: the best method in each metric, and every method that is not significantly worse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dmlbench.results.formatting import metric_label
from dmlbench.results.row import BASELINES, Row
from dmlbench.tables.significance_notes import LEVEL_IN_PRINT, model_statement, power_remark


@dataclass(frozen=True)
class Bold:
    """Result of the significance tests of a table.

    Args:
        best: Each tested metric to the labels of the methods that are not significantly worse than the best one, including it.
        meaning: Meaning of bold, a clause for the caption; empty if nothing is bold.
        details: How the tests were done and what was not tested, one sentence each, without a full stop.
    """

    best: Mapping[str, frozenset[str]] = field(default_factory=dict)
    meaning: str = ""
    details: tuple[str, ...] = ()


def find_bold(labels: Sequence[str], methods: Iterable[Mapping[int, Row]], metrics: Sequence[str], test: bool) -> Bold:
    """Find the methods to print in bold.

    Args:
        labels: Names of the methods.
        methods: Result rows of each method by seed.
        metrics: Printed metrics.
        test: Whether to test significance. It needs two methods and two seeds.
    """
    by_label = {label: list(seeds.values()) for label, seeds in zip(labels, methods, strict=True)}
    trained = {label: rows for label, rows in by_label.items() if all(row.ok and row["loss"] not in BASELINES for row in rows)}
    if not trained:
        return Bold()
    with_baseline = any(row["loss"] in BASELINES for rows in by_label.values() for row in rows)
    best_method = "best trained method" if with_baseline else "best method"
    untested = f"bold marks the {best_method}, without a significance test"
    if not test or len(trained) < 2 or max(map(len, trained.values())) < 2:
        return Bold(meaning=untested)
    from dmlbench.tables.significance import not_significantly_worse  # imports numpy, which only tests need

    best, reasons, counts = {}, {}, set()
    for metric in metrics:
        complete = {label: rows for label, rows in trained.items() if all(row.number(metric) is not None for row in rows)}
        labels_of_best, reason = not_significantly_worse(complete, metric)
        if reason is None:
            best[metric] = labels_of_best
            counts.add(len(next(iter(complete.values()))))
        else:
            reasons[metric] = reason
    tested = f"bold marks the {best_method} and every method not significantly different from it"
    meaning = tested if best else untested
    return Bold(best, meaning, (*_test_details(counts), *_untested(reasons, some=bool(best))))


def _test_details(counts: Collection[int]) -> list[str]:
    if not counts:
        return []
    n = " or ".join(map(str, sorted(counts)))
    return [f"Significance ({LEVEL_IN_PRINT}, n = {n} seeds): {model_statement()}{power_remark(min(counts))}"]


def _untested(reasons: Mapping[str, str], some: bool) -> list[str]:
    """Return why metrics were not tested, one sentence per reason; without their names if the reason holds for all."""
    metrics: dict[str, list[str]] = {}
    for metric, reason in reasons.items():
        metrics.setdefault(reason, []).append(metric_label(metric))
    if len(metrics) == 1 and not some:
        return [f"Significance was not tested: {reason}" for reason in metrics]
    return [f"Significance was not tested in {', '.join(names)}: {reason}" for reason, names in metrics.items()]
