"""Test every pair of the trained methods of a table, with the test that decides what the table prints in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from dmlbench.report.figure import Method
from dmlbench.tables.class_scores import class_scores
from dmlbench.tables.significance import LEVEL, spread_of_difference

MAX_METHODS = 16  # a p-value takes about 10 ms, and a picture of more methods cannot be read


@dataclass(frozen=True)
class PairTests:
    """Significance of the differences of methods in one metric.

    Args:
        methods: The tested methods, or the best of them if there are many; by descending mean.
        means: Their means, fractions.
        p_values: Indices of two methods in the table, the smaller one first, to the p-value of their difference.
        n_tested: Number of tested methods.
        untested: Why nothing was tested, a clause; empty if there are tests.
    """

    methods: Sequence[Method] = ()
    means: Sequence[float] = ()
    p_values: Mapping[tuple[int, int], float] | None = None
    n_tested: int = 0
    untested: str = ""

    def p_value(self, one: Method, other: Method) -> float | None:
        """Return the p-value of the difference of two methods; None if it was not tested.

        Args:
            one: A method.
            other: Another method.
        """
        return (self.p_values or {}).get((min(one.index, other.index), max(one.index, other.index)))

    def groups(self) -> list[list[Method]]:
        """Return the largest groups of methods without a significant difference inside, each by descending mean."""
        equal = {
            one.index: {other.index for other in self.methods if one is not other and (self.p_value(one, other) or 0) > LEVEL}
            for one in self.methods
        }
        by_index = {one.index: one for one in self.methods}
        rank = {one.index: place for place, one in enumerate(self.methods)}
        found = [sorted(group, key=rank.__getitem__) for group in _maximal_cliques(equal) if len(group) > 1]
        return [[by_index[index] for index in group] for group in sorted(found, key=lambda group: [*map(rank.get, group)])]


def pairwise_tests(methods: Sequence[Method], metric: str, comparable: bool = True) -> PairTests:
    """Test the differences of the trained methods of a table.

    Args:
        methods: Methods of the table.
        metric: Name of the metric.
        comparable: Whether methods may be compared.
    """
    if not comparable:
        return PairTests(untested="the rows are not comparable")
    usable = [one for one in methods if one.row.trained and not one.row.inconsistent]
    tested = [one for one in usable if one.row.n == len(one.row.rows) and one.row.cells.get(metric)]
    if len(tested) < 2:
        return PairTests(untested="there are not two trained methods with results")
    if min(one.row.n for one in tested) < 2:
        return PairTests(untested="a method has only one seed")
    scores, reason = class_scores([one.row.rows for one in tested], metric)
    if scores is None:
        return PairTests(untested=reason or "per-query scores are missing")
    study = scores.study
    means = study.method_means()
    order = sorted(range(len(tested)), key=lambda place: (-means[place], place))[:MAX_METHODS]
    p_values = {}
    for first, second in combinations(sorted(order), 2):
        spread = spread_of_difference(study, first, second)
        p_values[tested[first].index, tested[second].index] = spread.p_value(float(means[first] - means[second]))
    return PairTests([tested[place] for place in order], [float(means[place]) for place in order], p_values, len(tested))


def _maximal_cliques(neighbours: Mapping[int, set[int]]) -> list[set[int]]:
    """Return all maximal sets of nodes that are neighbours of each other.

    Source:
        Bron and Kerbosch, Algorithm 457: finding all cliques of an undirected graph, Communications of the ACM 1973.
    """
    found: list[set[int]] = []

    def extend(clique: set[int], candidates: set[int], excluded: set[int]) -> None:
        if not candidates and not excluded:
            found.append(clique)
            return
        pivot = max(candidates | excluded, key=lambda node: len(neighbours[node] & candidates))
        for node in sorted(candidates - neighbours[pivot]):
            extend(clique | {node}, candidates & neighbours[node], excluded & neighbours[node])
            candidates = candidates - {node}
            excluded = excluded | {node}

    extend(set(), set(neighbours), set())
    return found
