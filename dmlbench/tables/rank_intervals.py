"""Ranks that a significance test supports: an interval for each method, such as 1 to 3, instead of one number.

The best possible rank of a method is 1 plus the number of methods that are significantly better. Its worst possible rank is
the number of methods minus those that are significantly worse. Pairs are tested as in `significance`, with Tukey's
studentised range over all methods, so all intervals together contain the true ranks with 95 % confidence.

Results that are published one by one have different seeds, and some have one seed or no per-query scores. The test uses the
seeds that most methods have in common; the other methods are not ranked, and a clause says why.

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
        best: The method with the highest mean, and those that are not significantly worse.
        seeds: Seeds that the test used; empty if nothing was tested.
        not_ranked: Name of each other method to a clause that says why it is not ranked.
    """

    intervals: Mapping[str, RankInterval] = field(default_factory=dict)
    best: frozenset[str] = frozenset()
    seeds: tuple[int, ...] = ()
    not_ranked: Mapping[str, str] = field(default_factory=dict)


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
    """Return the rows of the seeds that most methods have in common, at least two, and these seeds."""
    seeds = {name: frozenset(row.seed for row in rows) for name, rows in methods.items()}
    candidates = {found for found in seeds.values() if len(found) > 1}
    if not candidates:
        not_ranked |= dict.fromkeys(methods, "it has only one seed")
        return {}, ()
    common = max(candidates, key=lambda one: (sum(one <= other for other in seeds.values()), len(one), sorted(one)))
    for name, found in seeds.items():
        if len(found) < 2:
            not_ranked[name] = "it has only one seed"
        elif not common <= found:
            not_ranked[name] = f"it lacks {format_seeds(sorted(common - found))}, with which most methods were run"
    chosen = {name: [row for row in rows if row.seed in common] for name, rows in methods.items() if name not in not_ranked}
    return {name: sorted(rows, key=lambda row: row.seed) for name, rows in chosen.items()}, tuple(sorted(common))


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
    better, worse, ties = Counter[int](), Counter[int](), {ranked[0]}
    for first, second in combinations(ranked, 2):  # the first one has the higher mean
        spread = replace(spread_of_difference(study, first, second), n_methods=len(names))
        if spread.is_significant(float(means[first] - means[second])):
            better[second] += 1
            worse[first] += 1
        elif first == ranked[0]:
            ties.add(second)
    intervals = {names[i]: RankInterval(1 + better[i], len(ranked) - worse[i]) for i in ranked}
    return Ranking(intervals, frozenset(names[i] for i in ties), seeds, not_ranked)
