"""The ranks that each method may have, as lines from the best to the worst one."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from dmlbench.report.figure import Figure, Method, label_width
from dmlbench.report.scales import Scale, horizontal_axis
from dmlbench.report.svg import line, picture, text, with_hint
from dmlbench.results.formatting import metric_label
from dmlbench.tables.rank_intervals import Ranking, RankInterval

_PLOT, _RIGHT, _ROW, _TOP = 230.0, 52.0, 20.0, 8.0
_DOT = 0.02  # ranks to both sides of a single rank, so that its line has a length


def rank_figure(ranking: Ranking, methods: Sequence[Method], metric: str) -> Figure:
    """Draw the rank intervals.

    Args:
        ranking: Ranks of methods.
        methods: Methods of the table that are drawn if they are ranked.
        metric: Metric of the ranking.
    """
    title = f"Ranks by {metric_label(metric)}"
    ranked = [one for one in methods if one.row.label in ranking.intervals]
    if not ranked:
        return Figure(title, "No ranks, because nothing was tested.")
    left = label_width(ranked)
    worst = max(ranking.intervals[one.row.label].worst for one in ranked)
    scale = Scale(1, max(worst, 2), left, left + _PLOT, _ticks(max(worst, 2)))
    bottom = _TOP + _ROW * len(ranked)
    rows = [_row(one, ranking.intervals[one.row.label], scale, _TOP + _ROW * (i + 0.5)) for i, one in enumerate(ranked)]
    described = f"Rank intervals of {len(ranked)} methods; the table above has the numbers"
    drawn = picture(scale.end + _RIGHT, bottom + 38, described, horizontal_axis(scale, _TOP, bottom, "rank"), *rows)
    return Figure(title, "Each line covers the ranks that a method may have; methods with a common rank may be tied.", [drawn])


def _ticks(worst: int) -> tuple[int, ...]:
    """Return ranks with a tick: the first one and multiples of a round number, but none that there is not."""
    step = next(one for one in (1, 2, 5, 10, 20, 50, 100) if worst <= 6 * one or one == 100)
    return (1, *range(max(step, 2), worst + 1, step))


def _row(method: Method, ranks: RankInterval, scale: Scale, y: float) -> Markup:
    parts = [
        text(scale.start - 10, y + 4, method.label, "end"),
        line(scale(ranks.best - _DOT), y, scale(ranks.worst + _DOT), y, f"rank {method.colour}"),
        text(scale.end + _RIGHT, y + 4, str(ranks), "end", "value"),
    ]
    return with_hint(f"{method.row.label}: rank {ranks}", *parts, **method.mark)
