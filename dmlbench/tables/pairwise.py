"""Compare two methods: by how much they differ, how certain that is, in which classes, at what cost, and what else differs.

    rows of A, rows of B, one per seed --> Comparison

The test is the one of the tables (`significance`). For two methods it is a t test whose error accounts for seed and class
variance. If there are too few seeds, the test is over classes only, and the result says that it does not account for seed
variance. Numbers are fractions; `pairwise_text` writes percent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError, suggest
from dmlbench.results import run_files
from dmlbench.results.column_specs import Column
from dmlbench.results.columns import column
from dmlbench.results.formatting import format_seeds
from dmlbench.results.metric_specs import CONCATENATED, MACRO
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.significance import (
    LEVEL,
    Study,
    class_scores,
    class_scores_per_method,
    estimate_spread,
    paired_half_width,
    weighted,
)
from dmlbench.tables.warnings import newest_versions, old_version_warning, warnings_of

METRICS = ("map_at_r", "recall_at_1", "r_precision")
# If two rows differ in one of these, they were evaluated on different images.
DATA = ("dataset", "split_digest")

Basis = Literal["seeds and classes", "classes only", "none"]
Pair = tuple[Scalar, Scalar]


@dataclass(frozen=True)
class Difference:
    """One metric of two methods, as fractions.

    Args:
        metric: Name of the column.
        a: Mean of A over seeds.
        b: Mean of B over seeds.
        half_width: Half width of the 95 % interval of `b - a`; None if nothing was tested.
        p: p-value of the hypothesis that there is no difference; likewise.
        basis: Sources of variance that the test accounts for.
        untested: Why it does not account for both, a clause.
    """

    metric: str
    a: float
    b: float
    half_width: float | None
    p: float | None
    basis: Basis
    untested: str | None = None

    @property
    def value(self) -> float:
        """B - A."""
        return self.b - self.a

    @property
    def better(self) -> Literal["a", "b", None]:
        """The significantly better method, if there is one; higher is better in every compared metric."""
        if self.p is None or self.p > LEVEL or not self.value:
            return None
        return "b" if self.value > 0 else "a"


@dataclass(frozen=True)
class ClassMeans:
    """One class: means of the metric over its queries and all seeds, as fractions."""

    label: int
    name: str
    n_queries: int
    a: float
    b: float

    @property
    def gain(self) -> float:
        """B - A."""
        return self.b - self.a


@dataclass(frozen=True)
class Cost:
    """A cost of two methods, as means over seeds in the printed unit; None if it was not measured."""

    column: Column
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Comparison:
    """What can be said of two methods.

    Args:
        a: Compared rows of A, one per seed.
        b: Compared rows of B.
        differences: Metrics; the requested one first.
        classes: Class means in that metric, from the largest gain of B to its largest loss; empty without per-query scores.
        costs: Costs that either of them has.
        not_comparable: Shared columns in which the two differ; empty if they are comparable.
        method: Hyper-parameters in which they differ.
        circumstances: Other columns in which they differ: versions, device, model selection.
        notes: Warnings, one sentence each.
    """

    a: tuple[Row, ...]
    b: tuple[Row, ...]
    differences: tuple[Difference, ...]
    classes: tuple[ClassMeans, ...]
    costs: tuple[Cost, ...]
    not_comparable: Mapping[str, Pair]
    method: Mapping[str, Pair]
    circumstances: Mapping[str, Pair]
    notes: tuple[str, ...]


def compare_pair(a: Sequence[Row], b: Sequence[Row], metric: str = METRICS[0]) -> Comparison:
    """Compare two methods.

    Args:
        a: Rows of one method, which differ only in their seed.
        b: Rows of another method.
        metric: Metric of the verdict.

    Raises:
        UserError: No row of one of them has results, or not this metric.
    """
    ok_a, notes_a = _with_results("A", a)
    ok_b, notes_b = _with_results("B", b)
    common = sorted({row.seed for row in ok_a} & {row.seed for row in ok_b})
    rows_a, unused_a = _with_common_seeds("A", ok_a, common)
    rows_b, unused_b = _with_common_seeds("B", ok_b, common)
    _refuse_unknown(metric, rows_a, rows_b)
    both = rows_a + rows_b
    metrics = [name for name in dict.fromkeys((metric, *METRICS)) if all(row.number(name) is not None for row in both)]
    shared = [name for row in (rows_a[0], rows_b[0]) for name in row.shared]
    methods = [name for row in (rows_a[0], rows_b[0]) for name in row.method]
    others = [name for row in (rows_a[0], rows_b[0]) for name in row.columns if _is_circumstance(name)]
    not_comparable = _differing(rows_a, rows_b, shared)
    same_queries = not_comparable.keys().isdisjoint(DATA)
    few = _too_few_seeds(rows_a, rows_b, common)
    tested = [_difference(rows_a, rows_b, name, few, same_queries) for name in metrics]
    return Comparison(
        a=rows_a,
        b=rows_b,
        differences=tuple(difference for difference, _ in tested),
        classes=_classes(tested[0][1], rows_a[0], rows_b[0]),
        costs=tuple(_costs(rows_a, rows_b)),
        not_comparable=not_comparable,
        method=_differing(rows_a, rows_b, methods),
        circumstances=_differing(rows_a, rows_b, others),
        notes=(*notes_a, *notes_b, *unused_a, *unused_b, *_warnings(rows_a, rows_b)),
    )


def _with_results(name: str, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows with results, and notes about the others."""
    failed = [row for row in rows if not row.ok]
    reasons = [f"seed {row.seed} failed: {row.get('reason') or 'no reason given'}" for row in failed]
    if len(failed) == len(rows):
        label = rows[0].get("loss_label") or rows[0]["loss"]
        raise UserError(f"{name} ({label}) has no results to compare: {'; '.join(reasons)}")
    return [row for row in rows if row.ok], [f"{name}: {reason}; only the other seeds are used" for reason in reasons]


def _with_common_seeds(name: str, rows: Sequence[Row], common: Sequence[int]) -> tuple[tuple[Row, ...], list[str]]:
    """The rows with seeds that both methods have, if these are two or more; and a note about the others."""
    if len(common) < 2:
        return tuple(rows), []
    unused = sorted(row.seed for row in rows if row.seed not in common)
    notes = [f"Only {name} has {format_seeds(unused)}, which {'is' if len(unused) == 1 else 'are'} not used"] if unused else []
    return tuple(row for row in rows if row.seed in common), notes


def _warnings(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    notes = []
    if EXTERNAL in (a[0]["protocol"], b[0]["protocol"]):
        notes.append("External embeddings are compared: their training and model selection are unknown")
    newest = newest_versions([*a, *b])
    for name, side in (("A", a), ("B", b)):
        notes += [f"{name}: {warning}" for warning in (*warnings_of(side), *old_version_warning(side, newest))]
    for name, what in (("device", "devices"), ("hostname", "machines")):
        if len({row.get(name) for row in (*a, *b)} - {None}) > 1:
            notes.append(f"Costs were measured on different {what}: {_values(a, name)} | {_values(b, name)}")
    return notes


def _refuse_unknown(metric: str, a: Sequence[Row], b: Sequence[Row]) -> None:
    for name, rows in (("A", a), ("B", b)):
        if not all(row.number(metric) is not None and metric in row.metrics for row in rows):
            shared = [each for each in rows[0].metrics if all(row.number(each) is not None for row in (*a, *b))]
            plain = [each for each in shared if not each.startswith((MACRO, CONCATENATED, "separated_"))]
            similar = suggest(metric, shared)
            similar = similar if similar.startswith("; did") else suggest(metric, plain)
            raise UserError(f"--metric {metric}: not every row of {name} has this metric{similar}")


def _too_few_seeds(a: Sequence[Row], b: Sequence[Row], common: Sequence[int]) -> str | None:
    """Why the seeds do not allow a test, if they do not."""
    if len(common) > 1:
        return None
    if len(a) == len(b) == 1:
        return "each has one seed"
    if 1 in (len(a), len(b)):
        return f"{'A' if len(a) == 1 else 'B'} has one seed"
    return f"they have {'one seed' if common else 'no seed'} in common"


def _difference(
    a: Sequence[Row], b: Sequence[Row], metric: str, few: str | None, same_queries: bool
) -> tuple[Difference, Study | None]:
    """The difference in a metric with the best possible test, and the class means that it is based on, if there are any.

    Args:
        a: Rows with results.
        b: Likewise.
        metric: A column of all.
        few: Why there are too few seeds for the complete test; None if there are enough.
        same_queries: Whether both were evaluated on the same queries.
    """
    mean_a, mean_b = _mean(a, metric), _mean(b, metric)
    assert mean_a is not None  # see `_refuse_unknown`
    assert mean_b is not None
    means = mean_a, mean_b
    study, missing = None, "the two were not evaluated on the same queries"
    if same_queries:
        study, missing = _class_means(a, b, metric, all_seeds=few is None)
    if study is None:
        return Difference(metric, *means, half_width=None, p=None, basis="none", untested=missing), None
    if few is None:
        spread = estimate_spread(study.values)
        return Difference(metric, *means, spread.half_width(), spread.p_value(means[1] - means[0]), "seeds and classes"), study
    gains = study.means[1, 0] - study.means[0, 0]
    half_width, p = paired_half_width(gains if study.macro else weighted(gains, study.counts))
    return Difference(metric, *means, half_width, p, "classes only", few), study


def _class_means(a: Sequence[Row], b: Sequence[Row], metric: str, all_seeds: bool) -> tuple[Study | None, str]:
    """Class means of two methods, per seed if there are enough seeds, else averaged over each method's own; or why not."""
    if all_seeds:
        study, missing = class_scores([a, b], metric)
        return study, missing or ""
    studies, missing = class_scores_per_method([a, b], metric)
    if studies is None:
        return None, missing or ""
    return replace(studies[0], means=np.stack([study.means.mean(1) for study in studies])), ""


def _classes(study: Study | None, *rows: Row) -> tuple[ClassMeans, ...]:
    if study is None:
        return ()
    names = next((known for row in rows if (known := _class_names(row))), {})
    a, b = study.means.mean(1)
    found = [
        ClassMeans(int(label), names.get(str(label)) or f"class {label}", int(n), float(one), float(other))
        for label, n, one, other in zip(study.labels, study.counts, a, b, strict=True)
    ]
    return tuple(sorted(found, key=lambda each: (-each.gain, each.label)))


def _class_names(row: Row) -> dict[str, str]:
    """Names of the classes by label, of a run or of the run that an evaluation belongs to; empty if they were not kept."""
    for folder in (row.folder, row.folder.parent) if row.folder else ():
        try:
            names = json.loads((folder / run_files.CLASSES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(names, dict):
            return {str(label): str(name) for label, name in names.items()}
    return {}


def _costs(a: Sequence[Row], b: Sequence[Row]) -> Iterable[Cost]:
    names = dict.fromkeys(name for row in (a[0], b[0]) for name in row.columns if column(name).role == "cost")
    for one in map(column, names):
        means = [_mean(rows, one.name) for rows in (a, b)]
        if any(means):
            yield Cost(one, *(None if mean is None else mean / one.scale for mean in means))


def _differing(a: Sequence[Row], b: Sequence[Row], names: Sequence[str]) -> dict[str, Pair]:
    """The columns in which the two differ; if the rows of one differ among themselves, with all of its values."""
    found = {name: (_values(a, name), _values(b, name)) for name in dict.fromkeys(names)}
    differing = {name: values for name, values in found.items() if repr(values[0]) != repr(values[1])}
    # What is unset on both sides comes last.
    return dict(sorted(differing.items(), key=lambda item: set(item[1]) <= {None, ABSENT}))


def _values(rows: Sequence[Row], name: str) -> Scalar:
    values = dict.fromkeys(row.get(name, ABSENT) for row in rows)
    return next(iter(values)) if len(values) == 1 else ", ".join(sorted(map(str, values)))


def _is_circumstance(name: str) -> bool:
    """Whether a column is neither shared nor of the method, and yet a reason for results to differ."""
    one = column(name)
    return one.role == "provenance" and one.reproducible


def _mean(rows: Sequence[Row], name: str) -> float | None:
    """The mean over rows; None if one does not have such a number."""
    each = [row.number(name) for row in rows]
    known = [value for value in each if value is not None]
    return float(np.mean(known)) if len(known) == len(each) else None
