"""Classes that each method wins and loses against the others: a matrix of counts, and for each pair the gain in every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from markupsafe import Markup

from dmlbench.report.figure import Method
from dmlbench.report.pair_tests import PairTests
from dmlbench.report.scales import horizontal_axis, linear, vertical_axis
from dmlbench.report.svg import element, line, number, picture, text, with_hint
from dmlbench.results.class_files import class_names
from dmlbench.results.formatting import format_difference, format_percent, metric_label
from dmlbench.tables.class_scores import ClassScores, class_scores_per_method

MAX_METHODS = 9  # 36 pairs
MAX_LISTED = 5
_MAX_STEPS = 240  # of a curve; more cannot be seen
_TIE = 0.5e-3  # half of the last printed digit, 0.1 %
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 640.0, 270.0, 48.0, 36.0, 42.0


@dataclass(frozen=True)
class ClassGain:
    """A class in which one of two methods is clearly better.

    Args:
        name: Name of the class.
        n_queries: Number of its queries.
        a: Mean of the first method, in percent, as text.
        b: Mean of the second one.
        gain: Difference, with its sign.
    """

    name: str
    n_queries: int
    a: str
    b: str
    gain: str


@dataclass(frozen=True)
class PairGains:
    """Two methods in each class.

    Args:
        a: Method with the higher mean.
        b: The other one.
        summary: Numbers of classes won and lost, the difference and its p-value, a sentence.
        curve: Gain of the first method in each class, from the largest to the smallest.
        gains: Classes with the largest gains of the first method.
        losses: Classes with its largest losses.
    """

    a: Method
    b: Method
    summary: str
    curve: Markup
    gains: Sequence[ClassGain]
    losses: Sequence[ClassGain]


@dataclass(frozen=True)
class ClassWins:
    """Classes won and lost between all pairs of some methods.

    Args:
        metric: Name of the metric in print.
        methods: The methods by descending mean.
        n_classes: Number of classes with scores.
        counts: For each method, the number of classes in which it is better than each other one; None on the diagonal.
        pairs: All pairs; the first one is shown at first.
        note: What was left out, a sentence; or why there is nothing to show.
    """

    metric: str
    methods: Sequence[Method] = ()
    n_classes: int = 0
    counts: Sequence[Sequence[int | None]] = ()
    pairs: Sequence[PairGains] = ()
    note: str = ""


def class_wins(methods: Sequence[Method], metric: str, tests: PairTests) -> ClassWins:
    """Compare every pair of methods class by class, with means over seeds.

    Args:
        methods: Methods of a table.
        metric: Name of the metric.
        tests: Tests of the differences.
    """
    label = metric_label(metric)
    known = [one for one in methods if one.row.n and one.row.n == len(one.row.rows) and one.row.cells.get(metric)]
    known.sort(key=lambda one: -one.row.cells[metric].mean)  # type: ignore[union-attr]  # checked above
    shown, note = known[:MAX_METHODS], ""
    if len(known) < 2:
        return ClassWins(label, note="There are not two methods with results to compare class by class.")
    if len(known) > MAX_METHODS:
        note = f"The {MAX_METHODS} best of {len(known)} methods. "
    scores, reason = class_scores_per_method([one.row.rows for one in shown], metric)
    if scores is None:
        return ClassWins(label, note=f"Classes cannot be compared: {reason}.")
    note += _without_queries(shown[0], len(scores[0].labels))
    means = np.stack([one.means[0].mean(0) for one in scores])
    names = next((found for one in shown for row in one.row.rows if (found := class_names(row))), {})
    titles = [names.get(str(key)) or f"class {key}" for key in scores[0].labels]
    wins = means[:, None] > means[None] + _TIE
    counts = [[None if i == j else int(wins[i, j].sum()) for j in range(len(shown))] for i in range(len(shown))]
    pairs = [
        _pair(shown[i], shown[j], means[i], means[j], scores[0], titles, tests, label)
        for i, j in combinations(range(len(shown)), 2)
    ]
    return ClassWins(label, shown, len(titles), counts, pairs, note.strip())


def _without_queries(method: Method, n_classes: int) -> str:
    """Return why there are fewer classes than the caption of the table says, a sentence; empty if there are not."""
    total = method.row.rows[0].get("n_test_classes")
    if not isinstance(total, int) or total <= n_classes:
        return ""
    return f"{total - n_classes} of the {total} test classes have no query."


def _pair(
    a: Method,
    b: Method,
    means_a: np.ndarray,
    means_b: np.ndarray,
    scores: ClassScores,
    names: Sequence[str],
    tests: PairTests,
    metric: str,
) -> PairGains:
    gains = means_a - means_b
    order = np.argsort(-gains, kind="stable")
    won, lost = int((gains > _TIE).sum()), int((gains < -_TIE).sum())
    p = tests.p_value(a, b)
    tested = "not tested" if p is None else f"p {_p_value(p)}"
    summary = (
        f"{a.row.label} is better in {won} of {len(gains)} classes, {b.row.label} in {lost}; "
        f"equal in {len(gains) - won - lost}. "
        f"Mean difference in {metric}: {format_difference(float(gains @ scores.weights))} points ({tested})."
    )

    def listed(places: Sequence[int]) -> list[ClassGain]:
        return [
            ClassGain(
                name=names[place],
                n_queries=int(scores.counts[place]),
                a=format_percent(float(means_a[place])),
                b=format_percent(float(means_b[place])),
                gain=format_difference(float(gains[place])),
            )
            for place in places
        ]

    best = [int(place) for place in order[:MAX_LISTED] if gains[place] > _TIE]
    worst = [int(place) for place in order[::-1][:MAX_LISTED] if gains[place] < -_TIE]
    return PairGains(a, b, summary, _curve(100 * gains[order], a, b, metric), listed(best), listed(worst))


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else "> 0.999" if p > 0.999 else f"= {p:.3f}"


def _curve(gains: np.ndarray, a: Method, b: Method, metric: str) -> Markup:
    """Draw gains in points, in descending order, as bars without gaps."""
    right, bottom, n = _WIDTH - 12, _HEIGHT - _BOTTOM, len(gains)
    x, y = replace(linear([0, n], _LEFT, right, whole=True), high=n), linear([*gains[[0, -1]].tolist(), 0.0], bottom, _TOP)
    steps = min(n, _MAX_STEPS)
    edges = [n * place // steps for place in range(steps + 1)]
    heights = [float(gains[begin:end].mean()) for begin, end in pairwise(edges)]
    areas = []
    for method, sign in ((a, 1), (b, -1)):
        mine = [place for place, height in enumerate(heights) if sign * height > 0]  # neighbours, because gains are sorted
        if mine:
            tops = "".join(f"V{number(y(heights[place]))}H{number(x(edges[place + 1]))}" for place in mine)
            outline = f"M{number(x(edges[mine[0]]))} {number(y(0))}{tops}V{number(y(0))}z"
            areas.append(element("path", d=outline, class_=f"area {method.colour}"))
    labels = [
        with_hint(a.row.label, text(right, _TOP + 12, f"{a.label} better", "end", "strong")),
        with_hint(b.row.label, text(_LEFT + 6, bottom - 8, f"{b.label} better", class_="strong")),
    ]
    axes = [
        horizontal_axis(
            replace(x, ticks=tuple(tick for tick in x.ticks if tick <= n)),
            _TOP,
            bottom,
            "classes, from the largest gain to the largest loss",
        ),
        vertical_axis(y, _LEFT, right),
    ]
    heading = text(0, 14, f"difference in {metric}, points", class_="heading")
    described = f"Difference of {a.row.label} and {b.row.label} in {metric} in each of {n} classes, in descending order"
    return picture(_WIDTH, _HEIGHT, described, heading, *axes, *areas, line(_LEFT, y(0), right, y(0), "zero"), *labels)
