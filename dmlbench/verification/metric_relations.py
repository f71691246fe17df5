"""Relations between the metrics of a row that hold for every ranking.

Each is a linear inequality. So it holds for the scores of a query, for means over queries, classes and models, and for expected
values over the orders of tied items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from dmlbench.results.formatting import metric_label
from dmlbench.results.metric_specs import CONCATENATED, FULL, MACRO, parse_metric

TOLERANCE = 1e-9  # by which rounding may violate a relation of means


class Relation(NamedTuple):
    """The inequality `sum(factor * metric) + constant <= 0` with a clause that says what its violation is."""

    message: str
    terms: tuple[tuple[float, str], ...]
    constant: float = 0.0

    def is_violated(self, values: Mapping[str, float]) -> bool:
        """Return whether some metrics violate the relation.

        Args:
            values: Metric to fraction, all metrics of the relation included.
        """
        total = self.constant
        for factor, name in self.terms:  # faster than sum() of a generator, for thousands of rows
            total += factor * values[name]
        return total > TOLERANCE


@lru_cache(256)
def relations(names: tuple[str, ...]) -> tuple[Relation, ...]:
    """Return the relations between some metrics. The cache helps because thousands of rows have the same metrics.

    Args:
        names: Names of metrics. Those of other galleries, kinds of mean and numbers of models are not related.
    """
    families: dict[str, dict[str, dict[int, str]]] = {}
    for name in names:
        prefix, plain = _split(name)
        metric = parse_metric(plain)
        if metric is not None:
            families.setdefault(prefix, {}).setdefault(metric.spec.name, {})[metric.k or 0] = name
    return tuple(relation for family in families.values() for relation in _of_family(family))


def _split(name: str) -> tuple[str, str]:
    """Split the name of a metric into its prefixes and the metric."""
    plain = name
    for prefix in (CONCATENATED, FULL, MACRO):
        plain = plain.removeprefix(prefix)
    return name[: len(name) - len(plain)], plain


def _of_family(family: Mapping[str, Mapping[int, str]]) -> Iterator[Relation]:
    """Yield the relations between metrics with the same prefixes; a metric without k has k = 0."""
    recall, precision, retrieved = (family.get(f"{name}_at_<k>", {}) for name in ("recall", "precision", "retrieved"))
    for by_k in (recall, retrieved):
        for (_, fewer), (_, more) in pairwise(sorted(by_k.items())):
            yield _at_most((1, fewer), (1, more))
    for (k, fewer), (more_k, more) in pairwise(sorted(precision.items())):  # k times Precision@k counts relevant items
        yield _at_most((k, fewer), (more_k, more))
        message = f"{metric_label(more)} and {metric_label(fewer)} differ by more than {more_k - k} items"
        yield Relation(message, ((more_k, more), (-k, fewer)), k - more_k)
    for k in sorted(recall.keys() & precision.keys()):
        yield _at_most((1, precision[k]), (1, recall[k]))
        yield _at_most((1, recall[k]), (k, precision[k]))
    for k in sorted(recall.keys() & retrieved.keys()):
        yield _at_most((1, retrieved[k]), (1, recall[k]))
    for k in sorted(precision.keys() & retrieved.keys()):
        yield _at_most((1, retrieved[k]), (k, precision[k]))
    one = {name: by_k[0] for name, by_k in family.items() if 0 in by_k}
    for low, high in (("map_at_r", "r_precision"), ("ami", "nmi")):
        if low in one and high in one:
            yield _at_most((1, one[low]), (1, one[high]))
    if "mean_reciprocal_rank" in one and recall:
        yield from _reciprocal_rank(one["mean_reciprocal_rank"], sorted(recall.items()))


def _at_most(low: tuple[float, str], high: tuple[float, str]) -> Relation:
    """Return the relation that a metric times a factor is at most another one times a factor."""
    left, right = (
        f"{factor} times {metric_label(name)}" if factor != 1 else metric_label(name) for factor, name in (low, high)
    )
    return Relation(f"{left} is above {right}", (low, (-high[0], high[1])))


def _reciprocal_rank(mean: str, recall: Sequence[tuple[int, str]]) -> Iterator[Relation]:
    """Bound the mean reciprocal rank: the first relevant item of a query is between two ranks for which Recall@k is known."""
    ks = [k for k, _ in recall]
    names = [name for _, name in recall]
    least = [1 / k - 1 / after for k, after in pairwise(ks)] + [1 / ks[-1]]
    most = [1 / (before + 1) - 1 / (k + 1) for before, k in pairwise([0, *ks])]
    label = metric_label(mean)
    yield Relation(f"{label} is too small for Recall@k", ((-1, mean), *zip(least, names, strict=True)))
    upper = tuple((-factor, name) for factor, name in zip(most, names, strict=True))
    yield Relation(f"{label} is too large for Recall@k", ((1, mean), *upper), -1 / (ks[-1] + 1))
