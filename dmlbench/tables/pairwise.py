"""Compare two methods: difference and significance, classes, costs, and in what else they differ.

    rows of A, rows of B, one per seed --> Comparison

Numbers are fractions; `formats.pairwise_text` converts them to percent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError, suggest
from dmlbench.results.column_specs import Column
from dmlbench.results.columns import column
from dmlbench.results.formatting import format_seeds
from dmlbench.results.metric_specs import CONCATENATED, MACRO
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.tables.axis import ABSENT
from dmlbench.tables.class_means import ClassMeans, class_means
from dmlbench.tables.consistency import Consistency
from dmlbench.tables.metric_difference import Difference, mean_over_seeds, metric_difference
from dmlbench.tables.significance_notes import limits_of_data
from dmlbench.tables.warnings import newest_versions, old_version_warning, warnings_of

METRICS = ("map_at_r", "recall_at_1", "r_precision")
# If two rows differ in one of these, they were not evaluated on the same queries and gallery, as far as is known.
_DATA = ("dataset", "split_digest")

Pair = tuple[Scalar, Scalar]


@dataclass(frozen=True)
class Cost:
    """A cost of two methods, as means over seeds in the printed unit.

    Args:
        column: Declaration of the cost.
        a: Mean of A; None if it was not measured.
        b: Mean of B; None if it was not measured.
    """

    column: Column
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods.

    Args:
        a: Compared rows of A, one per seed.
        b: Compared rows of B.
        differences: Differences in each metric; the requested one first.
        classes: Class means in that metric, from the largest gain of A to its largest loss; empty without per-query scores.
        costs: Costs that at least one of them has.
        not_comparable: Shared columns in which the two differ; empty if they are comparable.
        method: Hyper-parameters in which they differ.
        circumstances: Other columns in which they differ: versions, device, model selection.
        notes: Warnings, one sentence each, without a full stop.
        other_data: Why the two were perhaps not evaluated on the same images, a clause; None if they were.
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
    other_data: str | None = None

    @property
    def one_is_external(self) -> bool:
        """Whether one of the two is external embeddings, about whose training nothing is known, and the other is not."""
        return (self.a[0]["protocol"] == EXTERNAL) != (self.b[0]["protocol"] == EXTERNAL)


def compare_pair(a: Sequence[Row], b: Sequence[Row], metric: str = METRICS[0]) -> Comparison:
    """Compare two methods.

    Args:
        a: Rows of one method, which differ only in their seed.
        b: Rows of another method.
        metric: Metric of the verdict.

    Raises:
        UserError: No row of one of them has results, or not this metric.
    """
    ok_a, failed_a = _with_results("A", a)
    ok_b, failed_b = _with_results("B", b)
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
    other_data = None if not_comparable.keys().isdisjoint(_DATA) else _other_data(rows_a[0], rows_b[0])
    few = _too_few_seeds(rows_a, rows_b, common)
    tested_seeds = {len(common)} if few is None and other_data is None else set()
    tested = [metric_difference(rows_a, rows_b, name, few, other_data) for name in metrics]
    return Comparison(
        a=rows_a,
        b=rows_b,
        differences=tuple(difference for difference, _ in tested),
        classes=class_means(tested[0][1], rows_a[0], rows_b[0]),
        costs=tuple(_costs(rows_a, rows_b)),
        not_comparable=not_comparable,
        method=_differing(rows_a, rows_b, methods),
        circumstances=_differing(rows_a, rows_b, others),
        notes=(
            *_inconsistent(rows_a, rows_b),
            *(*failed_a, *failed_b, *unused_a, *unused_b),
            *_warnings(rows_a, rows_b, tested_seeds),
        ),
        other_data=other_data,
    )


def _with_results(name: str, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows with results, and notes about the others."""
    failed = [row for row in rows if not row.ok]
    reasons = [f"seed {row.seed} failed: {row.get('reason') or 'no reason given'}" for row in failed]
    if len(failed) == len(rows):
        label = rows[0].get("loss_label") or rows[0]["loss"]
        raise UserError(f"{name} ({label}) has no results to compare: {'; '.join(reasons)}")
    return [row for row in rows if row.ok], [f"{name}: {reason}; only the other seeds are used" for reason in reasons]


def _with_common_seeds(name: str, rows: Sequence[Row], common: Sequence[int]) -> tuple[tuple[Row, ...], list[str]]:
    """Return the rows with common seeds, if there are at least two of these; and a note about unused seeds."""
    if len(common) < 2:
        return tuple(rows), []
    unused = sorted(row.seed for row in rows if row.seed not in common)
    notes = [f"Only {name} has {format_seeds(unused)}, which {'is' if len(unused) == 1 else 'are'} not used"] if unused else []
    return tuple(row for row in rows if row.seed in common), notes


def _inconsistent(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """Return which rows contradict themselves or the scores of their queries, a clause per method."""
    consistency = Consistency([*a, *b])
    consistency.check_scores([*a, *b])
    return [f"{name} is {note}" for name, rows in (("A", a), ("B", b)) if (note := consistency.note(rows))]


def _warnings(a: Sequence[Row], b: Sequence[Row], tested_seeds: Collection[int]) -> list[str]:
    notes = []
    external = [name for name, rows in (("A", a), ("B", b)) if rows[0]["protocol"] == EXTERNAL]
    if external:
        both = "both contain" if len(external) > 1 else f"{external[0]} contains"
        notes.append(f"{both[0].upper()}{both[1:]} external embeddings: nothing is known about their training")
    n_test_classes = {row.get("n_test_classes") for row in (*a, *b)}
    notes += limits_of_data(tested_seeds, n_test_classes.pop() if len(n_test_classes) == 1 else None)
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
            common = [each for each in rows[0].metrics if all(row.number(each) is not None for row in (*a, *b))]
            plain = [each for each in common if not each.startswith((MACRO, CONCATENATED, "separated_"))]
            similar = suggest(metric, common)
            similar = similar if similar.startswith("; did") else suggest(metric, plain)
            raise UserError(f"--metric {metric}: not every row of {name} has this metric{similar}")


def _other_data(a: Row, b: Row) -> str:
    """Return why two rows that differ in `_DATA` cannot be tested."""
    external = [name for name, row in (("A", a), ("B", b)) if row["protocol"] == EXTERNAL]
    if len(external) == 1:
        return (
            f"dmlbench cannot tell whether the images are the same, because {external[0]} is a file of embeddings; evaluate "
            "the file embeddings.safetensors of the run too, and compare both files (see docs/add-your-own.md)"
        )
    if not external:
        return "they were evaluated on different images"
    if a["split_digest"] == b["split_digest"]:
        return f"their data sets are {a['dataset']} and {b['dataset']}; give both the same name with --dataset"
    if a.get("n_queries") != b.get("n_queries"):
        return "they have different numbers of queries"
    return "their labels or ids differ; take those of both files from the file embeddings.safetensors of a run"


def _too_few_seeds(a: Sequence[Row], b: Sequence[Row], common: Sequence[int]) -> str | None:
    """Return why seed variance cannot be tested; None if it can."""
    if len(common) > 1:
        return None
    if len(a) == len(b) == 1:
        return "each has one seed"
    if 1 in (len(a), len(b)):
        return f"{'A' if len(a) == 1 else 'B'} has one seed"
    return f"they have {'one seed' if common else 'no seed'} in common"


def _costs(a: Sequence[Row], b: Sequence[Row]) -> Iterable[Cost]:
    names = dict.fromkeys(name for row in (a[0], b[0]) for name in row.columns if column(name).role == "cost")
    for one in map(column, names):
        means = [mean_over_seeds(rows, one.name) for rows in (a, b)]
        if any(means):
            yield Cost(one, *(None if mean is None else mean / one.scale for mean in means))


def _differing(a: Sequence[Row], b: Sequence[Row], names: Sequence[str]) -> dict[str, Pair]:
    """Return the columns in which the two differ, with their values; columns that are unset on both sides come last."""
    pairs = {name: (_values(a, name), _values(b, name)) for name in dict.fromkeys(names)}
    differing = {name: values for name, values in pairs.items() if repr(values[0]) != repr(values[1])}
    return dict(sorted(differing.items(), key=lambda item: set(item[1]) <= {None, ABSENT}))


def _values(rows: Sequence[Row], name: str) -> Scalar:
    """Return the value of a column; if the rows of one method differ in it, all of its values."""
    values = dict.fromkeys(row.get(name, ABSENT) for row in rows)
    return next(iter(values)) if len(values) == 1 else ", ".join(sorted(map(str, values)))


def _is_circumstance(name: str) -> bool:
    """Whether a column is neither shared nor of the method, and still a possible reason for different results."""
    one = column(name)
    return one.role == "provenance" and one.reproducible
