"""Floor 3.7: what bold means: the best of a metric, and all that cannot be told from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from dmlbench.labels import metric_label
from dmlbench.rows import UNTRAINED, Row

FEW_SEEDS = 3


def even_with_best(
    labels: Sequence[str], methods: Iterable[Mapping[int, Row]], columns: Sequence[str]
) -> tuple[dict[str, frozenset[str]], str]:
    """Of each metric that can be tested the trained methods that cannot be told from the best, and sentences about the test."""
    from dmlbench.significance import alike_best  # with numpy, which an untested table does without

    trained = {
        label: list(seeds.values())
        for label, seeds in zip(labels, methods, strict=True)
        if all(row.ok and row["loss"] != UNTRAINED for row in seeds.values())
    }
    if len(trained) < 2 or max(map(len, trained.values())) < 2:
        return {}, ""
    even, untested, ns = {}, {}, set()
    for metric in columns:
        having = {label: rows for label, rows in trained.items() if all(row.number(metric) is not None for row in rows)}
        found, why = alike_best(having, metric)
        if why is None:
            even[metric] = found
            ns.add(len(next(iter(having.values()))))
        else:
            untested[metric] = why
    return even, ". ".join([*_test_words(ns), *_untested_words(untested, some=bool(even))])


def _test_words(ns: Collection[int]) -> list[str]:
    """What bold means, where something was tested; of so many seeds."""
    from dmlbench.significance import LEVEL

    if not ns:
        return []
    few = "; so few have little power to tell methods apart" if min(ns) <= FEW_SEEDS else ""
    return [
        f"Bold: the best, and every method that is not significantly different from it at {100 * LEVEL:.0f} % (crossed random "
        f"effects of seeds and classes, Satterthwaite, Tukey; n = {' or '.join(map(str, sorted(ns)))} seeds{few})"
    ]


def _untested_words(untested: Mapping[str, str], some: bool) -> list[str]:
    """Why there was no test, a sentence a reason; which metrics it is about, unless it is about all."""
    metrics: dict[str, list[str]] = {}
    for metric, why in untested.items():
        metrics.setdefault(why, []).append(metric_label(metric))
    if len(metrics) == 1 and not some:
        return [f"What is best was not tested: {why}" for why in metrics]
    return [f"What is best in {', '.join(names)} was not tested: {why}" for why, names in metrics.items()]
