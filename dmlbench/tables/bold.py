"""Find what a table prints in bold: the best method in each metric, and every method that is not significantly worse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dmlbench.results.formatting import metric_label
from dmlbench.results.row import UNTRAINED, Row

FEW_SEEDS = 3  # up to this number of seeds, the text mentions low power


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
    trained = {
        label: list(seeds.values())
        for label, seeds in zip(labels, methods, strict=True)
        if all(row.ok and row["loss"] != UNTRAINED for row in seeds.values())
    }
    if not trained:
        return Bold()
    untested = "bold marks the best method, without a significance test"
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
    meaning = "bold marks the best method and every method not significantly different from it" if best else untested
    return Bold(best, meaning, (*_test_details(counts), *_untested(reasons, some=bool(best))))


def _test_details(counts: Collection[int]) -> list[str]:
    from dmlbench.tables.significance import LEVEL

    if not counts:
        return []
    few = "; so few seeds give the test little power" if min(counts) <= FEW_SEEDS else ""
    return [
        f"Significance at {100 * LEVEL:.0f} %: mixed model with random effects of seeds and classes, Satterthwaite degrees of "
        f"freedom, Tukey's correction; n = {' or '.join(map(str, sorted(counts)))} seeds{few}"
    ]


def _untested(reasons: Mapping[str, str], some: bool) -> list[str]:
    """Return why metrics were not tested, one sentence per reason; without their names if the reason holds for all."""
    metrics: dict[str, list[str]] = {}
    for metric, reason in reasons.items():
        metrics.setdefault(reason, []).append(metric_label(metric))
    if len(metrics) == 1 and not some:
        return [f"Significance was not tested: {reason}" for reason in metrics]
    return [f"Significance was not tested in {', '.join(names)}: {reason}" for reason, names in metrics.items()]
