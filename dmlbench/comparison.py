"""Floor 4: two methods, one against the other: by how much, how sure, on which classes, at what cost, and what else differed.

    rows of A, rows of B --one a seed--> Comparison

The test is that of the tables (`significance`); of two methods it is a t test whose error holds both the seeds' chance and the
classes'. Where seeds do not allow it, the classes alone may still be asked, and it is said that they know nothing of the
seeds' noise. Numbers are fractions; percent is `comparison_text`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dmlbench.axes import ABSENT, method_columns
from dmlbench.errors import UserError, suggest
from dmlbench.measures import JOINED, MACRO
from dmlbench.rows import CLASSES, COST, EXTERNAL, Row, Scalar, is_shared
from dmlbench.screen import seeds_told
from dmlbench.sentinels import outdated, sentinels
from dmlbench.significance import LEVEL, Study, paired_half_width, spread_of, studies_of, study_of, weighted

METRICS = ("map_at_r", "recall_at_1", "r_precision")
COSTS = {
    "train_seconds": "training, s",
    "images_per_second": "images/s",
    "memory_gib": "memory, GiB",
    "n_model_parameters": "parameters, model",
    "n_loss_parameters": "parameters, loss",
}
# Neither shared nor the method's, and yet a reason for numbers to differ; with every column of a version or of tuning.
CIRCUMSTANCES = (
    *("device", "code_revision", "selected_on", "n_models", "n_queries", "n_gallery", "n_test_classes"),
    *("n_train_images", "n_train_classes", "n_images_skipped"),
)
# Where two differ in one of these, they were scored on different images.
DATA = ("dataset", "split_digest")

Basis = Literal["seeds and classes", "classes alone", "nothing"]
Pair = tuple[Scalar, Scalar]


@dataclass(frozen=True)
class Difference:
    """One metric of two methods, fractions.

    Args:
        metric: the column.
        a: mean over seeds.
        b: likewise.
        half_width: of the 95 % interval of `b - a`; None where nothing was tested.
        p: of the hypothesis that there is no difference; likewise.
        basis: which sources of chance the test has seen.
        untested: why not both, a clause.
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
        """Which is significantly better, if one is; every compared metric is better when it is higher."""
        if self.p is None or self.p > LEVEL or not self.value:
            return None
        return "b" if self.value > 0 else "a"


@dataclass(frozen=True)
class ClassMeans:
    """One class: the metric's means over its queries and all seeds, fractions."""

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
class Comparison:
    """What can be said of two methods.

    Args:
        a: the rows that were compared, one a seed.
        b: likewise.
        differences: the metric in question first.
        classes: by that metric, from B's greatest gain to its greatest loss; empty where each query's scores are not there.
        costs: label to the means over seeds, None where it was not measured.
        not_alike: shared columns in which the two differ; none where they were made alike.
        method: the method's columns in which they differ.
        circumstances: other columns in which they differ: versions, device, how chosen.
        notes: what a reader must know, a sentence each.
    """

    a: tuple[Row, ...]
    b: tuple[Row, ...]
    differences: tuple[Difference, ...]
    classes: tuple[ClassMeans, ...]
    costs: Mapping[str, tuple[float | None, float | None]]
    not_alike: Mapping[str, Pair]
    method: Mapping[str, Pair]
    circumstances: Mapping[str, Pair]
    notes: tuple[str, ...]


def compare(a: Sequence[Row], b: Sequence[Row], metric: str = METRICS[0]) -> Comparison:
    """Set two methods side by side.

    Args:
        a: rows of one method that differ in their seed alone.
        b: likewise, of another.
        metric: what the verdict is about.

    Raises:
        UserError: no row of one of them has numbers, or not this one.
    """
    notes: list[str] = []
    ok = {name: _with_numbers(name, rows, notes) for name, rows in (("A", a), ("B", b))}
    common = sorted({str(row["seed"]) for row in ok["A"]} & {str(row["seed"]) for row in ok["B"]}, key=int)
    if len(common) > 1:
        for name, rows in ok.items():
            ok[name] = [row for row in rows if str(row["seed"]) in common]
            if alone := sorted(int(str(row["seed"])) for row in rows if row not in ok[name]):
                notes.append(f"{name} alone has {seeds_told(alone)}, left out")
    rows_a, rows_b = tuple(ok["A"]), tuple(ok["B"])
    _refuse_unknown(metric, rows_a, rows_b)
    chosen = [
        name for name in dict.fromkeys((metric, *METRICS)) if all(row.number(name) is not None for row in rows_a + rows_b)
    ]
    not_alike = _differing(rows_a, rows_b, [name for row in (rows_a[0], rows_b[0]) for name in row.shared])
    same_queries = not_alike.keys().isdisjoint(DATA)
    few = _too_few_seeds(rows_a, rows_b, common)
    judged = [_difference(rows_a, rows_b, name, few, same_queries) for name in chosen]
    if EXTERNAL in (rows_a[0]["protocol"], rows_b[0]["protocol"]):
        notes.append("Embeddings from elsewhere are among them: how they were trained and chosen is not known here")
    for name, side in (("A", rows_a), ("B", rows_b)):
        notes += [f"{name}: {warning}" for warning in (*sentinels(side), *outdated(side))]
    for column, what in (("device", "devices"), ("hostname", "machines")):
        if len({row.get(column) for row in rows_a + rows_b} - {None}) > 1:
            notes.append(f"Costs were measured on different {what}: {_values(rows_a, column)} | {_values(rows_b, column)}")
    methods = [name for row in (rows_a[0], rows_b[0]) for name in method_columns(row)]
    others = [name for row in (rows_a[0], rows_b[0]) for name in row.columns if _is_circumstance(name)]
    return Comparison(
        a=rows_a,
        b=rows_b,
        differences=tuple(difference for difference, _ in judged),
        classes=_classes(judged[0][1], rows_a[0], rows_b[0]),
        costs={label: (_mean(rows_a, name), _mean(rows_b, name)) for name, label in COSTS.items()},
        not_alike=not_alike,
        method=_differing(rows_a, rows_b, methods),
        circumstances=_differing(rows_a, rows_b, others),
        notes=tuple(notes),
    )


def _with_numbers(name: str, rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """The rows that ended with numbers; the others are told."""
    failed = [row for row in rows if not row.ok]
    told = [f"seed {row['seed']} failed: {row.get('reason') or 'no reason given'}" for row in failed]
    if len(failed) == len(rows):
        raise UserError(f"{name} ({rows[0].get('loss_label') or rows[0]['loss']}) has no numbers to compare: {'; '.join(told)}")
    notes += [f"{name}: {sentence}; its numbers are those of the seeds that ended well" for sentence in told]
    return [row for row in rows if row.ok]


def _refuse_unknown(metric: str, a: Sequence[Row], b: Sequence[Row]) -> None:
    for name, rows in (("A", a), ("B", b)):
        if not all(row.number(metric) is not None and metric in row.metrics for row in rows):
            shared = [each for each in rows[0].metrics if all(row.number(each) is not None for row in (*a, *b))]
            plain = [each for each in shared if not each.startswith((MACRO, JOINED, "separated_"))]
            near = suggest(metric, shared)
            near = near if near.startswith("; did") else suggest(metric, plain)
            raise UserError(f"--metric {metric}: not every row of {name} has this metric{near}")


def _too_few_seeds(a: Sequence[Row], b: Sequence[Row], common: Sequence[str]) -> str | None:
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
    """A metric's difference, as sure as the data allow; and the class means it rests on, where they are there.

    Args:
        a: rows with numbers.
        b: likewise.
        metric: a column of all.
        few: why there are too few seeds for the whole test; None where there are enough.
        same_queries: whether the two were scored on the same ones.
    """
    mean_a, mean_b = _mean(a, metric), _mean(b, metric)
    assert mean_a is not None  # see `_refuse_unknown`
    assert mean_b is not None
    means = mean_a, mean_b
    study, missing = None, "the two were not scored on the same queries"
    if same_queries:
        study, missing = _class_means(a, b, metric, whole=few is None)
    if study is None:
        return Difference(metric, *means, half_width=None, p=None, basis="nothing", untested=missing), None
    if few is None:
        spread = spread_of(study.values)
        return Difference(metric, *means, spread.half_width(), spread.p_value(means[1] - means[0]), "seeds and classes"), study
    apart = study.means[1, 0] - study.means[0, 0]
    half_width, p = paired_half_width(apart if study.macro else weighted(apart, study.counts))
    return Difference(metric, *means, half_width, p, "classes alone", few), study


def _class_means(a: Sequence[Row], b: Sequence[Row], metric: str, whole: bool) -> tuple[Study | None, str]:
    """Class means of two methods, of each seed where there are enough of them, else each over its own seeds; or why not."""
    if whole:
        study, missing = study_of([a, b], metric)
        return study, missing or ""
    studies, missing = studies_of([a, b], metric)
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
    """The names of classes by their label, of a run or of what was scored again from it; none where they were not kept."""
    for folder in (row.folder, row.folder.parent) if row.folder else ():
        try:
            names = json.loads((folder / CLASSES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(names, dict):
            return {str(label): str(name) for label, name in names.items()}
    return {}


def _differing(a: Sequence[Row], b: Sequence[Row], columns: Sequence[str]) -> dict[str, Pair]:
    """The columns in which the two differ; where the rows of one differ among themselves, all its values."""
    found = {name: (_values(a, name), _values(b, name)) for name in dict.fromkeys(columns)}
    apart = {name: values for name, values in found.items() if repr(values[0]) != repr(values[1])}
    return dict(
        sorted(apart.items(), key=lambda item: set(item[1]) <= {None, ABSENT})
    )  # what is unset on both sides comes last


def _values(rows: Sequence[Row], column: str) -> Scalar:
    values = dict.fromkeys(row.get(column, ABSENT) for row in rows)
    return next(iter(values)) if len(values) == 1 else ", ".join(sorted(map(str, values)))


def _is_circumstance(column: str) -> bool:
    tuning = column.startswith(("tuned_", "n_tuning_")) and column not in COST
    return tuning or column in CIRCUMSTANCES or (column.endswith("_version") and not is_shared(column))


def _mean(rows: Sequence[Row], column: str) -> float | None:
    """None where one row has no such number."""
    each = [row.number(column) for row in rows]
    known = [value for value in each if value is not None]
    return float(np.mean(known)) if len(known) == len(each) else None
