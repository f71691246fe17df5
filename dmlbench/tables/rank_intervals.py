"""Ranks that a significance test supports: an interval for each method, such as 1 to 3, instead of one number.

The best possible rank of a method is 1 plus the number of methods that are significantly better. Its worst possible rank is
the number of methods minus those that are significantly worse. Pairs are tested as in `significance`, with Tukey's
studentised range over all methods, so all intervals together contain the true ranks with 95 % confidence.

Results that are published one by one have different seeds, and some have one seed or no per-query scores. The test uses the
seeds for which (methods that have all of them) x (seeds, counting at most five) is largest, so that two methods with many seeds
do not take the ranks from all others. The other methods are not ranked, and a clause says why.

Source: Al Mohamad, Goeman and van Zwet, Simultaneous confidence intervals for ranks with application to ranking institutions,
Biometrics 2022.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

from dmlbench.results.formatting import format_seeds
from dmlbench.results.row import Row
from dmlbench.tables.class_scores import ClassScores, class_scores, class_scores_per_method, read_class_means
from dmlbench.tables.significance import spread_of_difference

MAX_RANKED = 50  # methods; the number of pairs grows with its square, and a pair takes about a millisecond
MAX_SEED_SETS = 2000  # intersections of the seeds of methods that are considered
COUNTED_SEEDS = 5
Methods = Mapping[str, Sequence[Row]]


class RankInterval(NamedTuple):
    """Ranks that a method may have: the best and the worst one."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}\N{EN DASH}{self.worst}"


@dataclass(frozen=True)
class Ranking:
    """Rank intervals of methods in one metric.

    Args:
        intervals: Name of each ranked method to its ranks.
        seeds: Seeds that the test used; empty if nothing was tested.
        not_ranked: Name of each other method to a clause that says why it is not ranked.
        n_methods: Number of methods that could be ranked; those with the highest means are, at most `MAX_RANKED`.
    """

    intervals: Mapping[str, RankInterval] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    not_ranked: Mapping[str, str] = field(default_factory=dict)
    n_methods: int = 0

    @property
    def best(self) -> frozenset[str]:
        """The methods that may be the best one: no method is significantly better."""
        return frozenset(name for name, one in self.intervals.items() if one.best == 1)


def rank_methods(methods: Methods, metric: str) -> Ranking:
    """Rank methods by a metric.

    Args:
        methods: Name to rows, one per seed, with results. The methods may have different seeds.
        metric: Name of the metric; higher is better.
    """
    not_ranked: dict[str, str] = {}
    tested, seeds = _with_common_seeds(methods, not_ranked)
    scores, reason = _scores(tested, metric)
    if reason is not None:
        tested = _without_bad_scores(tested, metric, not_ranked)
        scores, reason = _scores(tested, metric)
    if scores is None:
        return Ranking(not_ranked={**not_ranked, **dict.fromkeys(tested, reason or "")})
    return _ranking(list(tested), scores, seeds, not_ranked)


def _with_common_seeds(methods: Methods, not_ranked: dict[str, str]) -> tuple[dict[str, list[Row]], tuple[int, ...]]:
    """Return the rows of the seeds that the test uses, and these seeds."""
    seeds = {name: frozenset(row.seed for row in rows) for name, rows in methods.items()}
    not_ranked |= {name: "it has only one seed" for name, found in seeds.items() if len(found) < 2}
    several = {name: found for name, found in seeds.items() if name not in not_ranked}
    common = _common_seeds(list(several.values()))
    if not common:
        reason = "no other method has two of its seeds" if len(several) > 1 else "no other method can be tested with it"
        not_ranked |= dict.fromkeys(several, reason)
        return {}, ()
    ranked = [name for name, found in several.items() if common <= found]
    used = f"the test uses {format_seeds(sorted(common))}, which {len(ranked)} methods have"
    for name, found in several.items():
        if not common <= found:
            not_ranked[name] = f"it lacks {format_seeds(sorted(common - found))}; {used}"
    chosen = {name: sorted((row for row in methods[name] if row.seed in common), key=lambda row: row.seed) for name in ranked}
    return chosen, tuple(sorted(common))


def _common_seeds(seeds: Sequence[frozenset[int]]) -> frozenset[int]:
    """Return the seeds for which (methods that have all of them) x (seeds, counting at most `COUNTED_SEEDS`) is largest.

    Args:
        seeds: Seeds of each method.

    Returns:
        At least two seeds that two methods or more have. With equal products, those that more methods have, then more seeds,
        then the smallest ones. Empty if there are none.
    """
    counts = Counter(seeds)
    found: dict[frozenset[int], None] = {}
    for one, _ in sorted(counts.items(), key=lambda pair: (-pair[1], sorted(pair[0]))):  # so that a limit drops the rarest
        found |= dict.fromkeys(both for other in [one, *found] if len(both := one & other) > 1)
        if len(found) > MAX_SEED_SETS:
            break
    number = {one: sum(count for other, count in counts.items() if one <= other) for one in found}
    several = [one for one in found if number[one] > 1]
    return min(
        several,
        key=lambda one: (-number[one] * min(len(one), COUNTED_SEEDS), -number[one], -len(one), sorted(one)),
        default=frozenset(),
    )


def _scores(methods: Methods, metric: str) -> tuple[ClassScores | None, str | None]:
    if len(methods) < 2:
        return None, "no other method can be tested with it"
    return class_scores(list(methods.values()), metric)


def _without_bad_scores(methods: Mapping[str, list[Row]], metric: str, not_ranked: dict[str, str]) -> dict[str, list[Row]]:
    """Return the methods with scores of the same queries as most methods."""
    queries = {}
    for name, rows in methods.items():
        _, reason = class_scores_per_method([rows], metric)
        if reason is not None:
            not_ranked[name] = reason
        elif (means := read_class_means(rows[0], metric.replace("macro_", "", 1))) is not None:
            queries[name] = means.queries
    usual = Counter(queries.values()).most_common(1)
    not_ranked |= dict.fromkeys((name for name, one in queries.items() if one != usual[0][0]), "it has other queries")
    return {name: methods[name] for name, one in queries.items() if one == usual[0][0]}


def _ranking(names: Sequence[str], scores: ClassScores, seeds: tuple[int, ...], not_ranked: dict[str, str]) -> Ranking:
    """Test all pairs of the methods with the highest means."""
    study = scores.study
    means = study.method_means()
    order = sorted(range(len(names)), key=lambda i: (-means[i], names[i]))
    ranked = order[:MAX_RANKED]
    not_ranked |= dict.fromkeys((names[i] for i in order[MAX_RANKED:]), f"only the {MAX_RANKED} highest means are tested")
    better, worse = Counter[int](), Counter[int]()
    for first, second in combinations(ranked, 2):  # the first one has the higher mean
        spread = replace(spread_of_difference(study, first, second), n_methods=len(names))
        if spread.is_significant(float(means[first] - means[second])):
            better[second] += 1
            worse[first] += 1
    intervals = {names[i]: RankInterval(1 + better[i], len(ranked) - worse[i]) for i in ranked}
    return Ranking(intervals, seeds, not_ranked, len(names))
