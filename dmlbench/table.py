"""Floor 4: rows set side by side, only where everything but the method and the seed is equal.

    rows --grouped by every shared column--> tables --one line a method--> cells: mean and interval over seeds

What may not be compared lands in another table, and `differences` says why. A hole is never averaged over: it
is a missing cell, and a note at its line says how it came about. Means are fractions; percent is `render`'s.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from dmlbench.axes import ABSENT, Axis, axis_of
from dmlbench.errors import UserError, suggest
from dmlbench.measures import JOINED, Column, column_of
from dmlbench.rows import EXTERNAL, MISSING, SHARED, UNTRAINED, Row, Scalar
from dmlbench.sentinels import outdated, sentinels
from dmlbench.stats import t_interval

FEW_SEEDS = 3

# The usual order of print: pairs, then proxies, then softmax with a margin. Any other loss follows, by name.
ORDER = (
    UNTRAINED,
    "contrastive",
    "triplet",
    "proxy_nca",
    "softtriple",
    "multi_similarity",
    "cosface",
    "arcface",
)
# The shared columns that every caption tells.
CAPTION_COLUMNS = (
    "dataset",
    "trunk",
    "preset",
    "optimizer",
    "protocol",
    "protocol_version",
    "protocol_epochs",
    "protocol_batch_size",
    "protocol_embedding_dim",
    "protocol_image_px",
)
# What rows of equal shared columns should agree in; where they do not, the reader is told.
SHOULD_AGREE = {
    "device": "devices",
    "n_queries": "numbers of queries",
    "n_test_classes": "numbers of test classes",
    "dmlbench_version": "versions of dmlbench",
    "torch_version": "versions of torch",
    "pytorch_metric_learning_version": "versions of pytorch-metric-learning",
}
SELECTED = {"last": "last epoch", "validation": "best on held-out training classes"}

_HEX_DIGEST = re.compile(r"[0-9a-f]{16,}")


@dataclass(frozen=True)
class Cell:
    """One method's metric: the mean over its seeds and its 95 % interval's half width, both fractions."""

    mean: float
    half_width: float | None


@dataclass(frozen=True)
class Line:
    """One method: a loss and its values.

    Args:
        label: its name in print, unlike every other line's in the table.
        seeds: the seeds that ended with numbers, ascending.
        cells: metric to Cell, or None where a number is missing.
        notes: what a reader must know of this line, a clause each.
    """

    label: str
    loss: str
    method_digest: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell | None]
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many seeds ended with numbers."""
        return len(self.seeds)


@dataclass(frozen=True)
class Table:
    """Methods that may be compared.

    Args:
        shared: the columns, and their values, that all rows have in common.
        lines: the untrained trunk first.
        metrics: every metric of the rows, in the order of print.
        columns: the metrics to print.
        caption: what was held equal, how a model was selected, what an interval means: plain sentences.
        notes: what a reader must know of the whole table, a clause each.
        alike: whether its lines differ in the method alone; else none is the best of them.
        even: metric to the labels of the methods that cannot be told from the best, itself included; empty where untested.
    """

    shared: Mapping[str, Scalar]
    lines: tuple[Line, ...]
    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    caption: str
    notes: tuple[str, ...] = ()
    alike: bool = True
    even: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def best(self, metric: str) -> float | None:
        """The highest mean of a trained method, a fraction; None where there is none, or where lines are not made alike."""
        if not self.alike:
            return None
        return _highest((line for line in self.lines if line.loss != UNTRAINED), metric)


def compare(rows: Sequence[Row], vary: str = "loss", metrics: Sequence[str] = (), tested: bool = True) -> list[Table]:
    """Set rows side by side wherever that is fair.

    Args:
        rows: in any order; a run given twice counts once.
        vary: the axis whose values make the lines of a table, see `axes`: `loss`, `trunk`, `loss.make.alpha` ...
        metrics: what to print; empty for Recall@k, R-precision and MAP@R, as far as all rows have them.
        tested: whether to look which methods cannot be told from the best, from the scores of each query.

    Returns:
        One table for each set of rows that agree in every shared column (`rows.is_shared`) that the axis does not own, and on
        an axis other than the method in the method too; of these, tables of one line are left out where there are others.

    Raises:
        UserError: there is no row, or an axis or a metric that is not known.
    """
    if not rows:
        raise UserError(
            "there is no finished run to make a table of; make some with `dmlbench sweep dataset=digits`, "
            "or name the folder they are in: `dmlbench table FOLDER`"
        )
    axis = axis_of(vary, rows)
    for metric in metrics:
        if not any(metric in row.metrics for row in rows):
            known = {name for row in rows for name in row.metrics}
            raise UserError(f"metrics={metric}: no row has this metric{suggest(metric, known)}")
    groups: dict[str, list[Row]] = {}
    equal = _text_a_kind(axis.equal)
    for row in rows:
        groups.setdefault(equal(row), []).append(row)
    tables = sorted((_table(group, tuple(metrics), axis, tested) for group in groups.values()), key=_table_place)
    if axis.is_loss or axis.is_preset:
        return tables
    several = [table for table in tables if len(table.lines) > 1]  # a line alone compares nothing
    return several or tables


def _text_a_kind(columns_of: Callable[[Row], Mapping[str, Scalar]]) -> Callable[[Row], str]:
    """Some of a row's columns as text, made once for all rows of a kind."""
    known: dict[Hashable, str] = {}

    def text(row: Row) -> str:
        if row.kind not in known:
            known[row.kind] = json.dumps(columns_of(row), sort_keys=True)
        return known[row.kind]

    return text


def differences(tables: Sequence[Table]) -> dict[str, tuple[Scalar, ...]]:
    """Say why some tables are not one.

    Args:
        tables: what `compare` returned.

    Returns:
        Each shared column in which not all tables agree, with its value in each, or `ABSENT`.
    """
    columns = sorted({name for table in tables for name in table.shared})
    values = {name: tuple(table.shared.get(name, ABSENT) for table in tables) for name in columns}
    return {name: found for name, found in values.items() if len(set(map(repr, found))) > 1}


def unsaid_differences(tables: Sequence[Table]) -> list[str]:
    """The columns in which tables differ though their captions do not show it.

    Not among them is a column that its family's name decides (`protocol_pooling`, where all tables of one
    `protocol` pool alike): the caption tells the name.
    """
    return [
        name
        for name in differences(tables)
        if name not in CAPTION_COLUMNS and not any(_follows(tables, name, family) for family in _families(name))
    ]


def shown(value: Scalar) -> str:
    """A column's value in print: digests are cut to eight digits.

    >>> shown(None), shown(0.0001), shown("0123456789abcdef0123")
    ('none', '0.0001', '01234567')
    """
    text = "none" if value is None else str(value)
    return text[:8] if _HEX_DIGEST.fullmatch(text) else text


def metric_label(metric: str) -> str:
    """A metric's name in print."""
    return _known(metric).label


def _known(metric: str) -> Column:
    found = column_of(metric)
    assert found is not None  # rows.is_metric let it pass
    return found


def _families(column: str) -> Iterable[str]:
    if column.startswith("split_"):
        return ("dataset",)
    return (name for name in SHARED if column.startswith(f"{name}_"))


def _follows(tables: Sequence[Table], column: str, family: str) -> bool:
    """Whether the family's name alone decides the column, in these tables."""
    pairs = {(repr(table.shared.get(family)), repr(table.shared.get(column, ABSENT))) for table in tables}
    return len(pairs) == len({name for name, _ in pairs})


def _table(rows: Sequence[Row], chosen: tuple[str, ...], axis: Axis, tested: bool) -> Table:
    methods, contradicted = _methods(rows)
    alike = not axis.is_preset
    unique = [row for seeds in methods.values() for row in seeds.values()]
    everyone = {_seed(row) for row in unique}
    metrics = tuple(sorted({metric for row in unique for metric in row.metrics}, key=lambda metric: _known(metric).place))
    columns = chosen or _default_columns(unique, metrics)
    firsts = [next(iter(seeds.values())) for seeds in methods.values()]
    labels = _labels(firsts, alike) if axis.is_loss or axis.is_preset else _values(firsts, axis)
    lines = [
        _line(label, [seeds[seed] for seed in sorted(seeds)], metrics, columns, everyone)
        for label, seeds in zip(labels, methods.values(), strict=True)
    ]
    if axis.is_loss or axis.is_preset:
        lines = sorted(lines, key=_line_place)
    else:
        by_label = {label: axis.place(row) for label, row in zip(labels, firsts, strict=True)}
        lines = sorted(lines, key=lambda line: by_label[line.label])
    if axis.is_loss:
        lines = _with_sentinels(lines)
    notes = [
        *(_recipes(labels, firsts, axis) if axis.is_preset else _unbeaten(lines, columns)),
        *outdated(unique),
        *(f"{row} is there twice with different numbers; only one of them counts" for row in contradicted),
        *(note for column, name in SHOULD_AGREE.items() for note in _disagreement(unique, column, name)),
    ]
    marked = alike and unique[0]["protocol"] != EXTERNAL
    even, said = _even(labels, methods.values(), columns) if marked and tested else ({}, "")
    caption = _caption(unique, lines, axis, said)
    return Table(axis.equal(unique[0]), tuple(lines), metrics, columns, caption, tuple(notes), marked, even)


def _even(
    labels: Sequence[str], methods: Iterable[Mapping[int, Row]], columns: Sequence[str]
) -> tuple[dict[str, frozenset[str]], str]:
    """Of each metric the trained methods that cannot be told from the best, and a sentence about the test."""
    from dmlbench.significance import LEVEL, alike_best  # with numpy, which an untested table does without

    trained = {
        label: list(seeds.values())
        for label, seeds in zip(labels, methods, strict=True)
        if all(row.ok and row["loss"] != UNTRAINED for row in seeds.values())
    }
    if len(trained) < 2 or max(map(len, trained.values())) < 2:
        return {}, ""
    found = {}
    for metric in columns:
        found[metric], why = alike_best(trained, metric)
        if why:
            return {}, f"What is best was not tested: {why}"
    n = len(next(iter(trained.values())))
    few = "; so few have little power to tell methods apart" if n <= FEW_SEEDS else ""
    return found, (
        f"Bold: the best, and every method that is not significantly different from it at {LEVEL:.0%} (crossed random "
        f"effects of seeds and classes, Satterthwaite, Tukey; n = {n} seeds{few})"
    )


def _recipes(labels: Sequence[str], rows: Sequence[Row], axis: Axis) -> list[str]:
    """For each line that is not made like the others, the columns in which they differ."""
    names = dict.fromkeys(name for row in rows for name in row.shared if axis.owns(name) and name != "preset")
    differing = [name for name in names if len({repr(row.shared.get(name, ABSENT)) for row in rows}) > 1]
    said = []
    for label, row in sorted(zip(labels, rows, strict=True), key=lambda pair: pair[0]):
        twins = [other for other in rows if other["loss"] == row["loss"]]
        values = [f"{name}={shown(row.shared.get(name, ABSENT))}" for name in differing]
        said.append(f"{label}: {', '.join([*values, *_own_values(row, twins)])}")
    return said


def _own_values(row: Row, twins: Sequence[Row]) -> list[str]:
    """The method's values in which it differs from others of the same loss, as `la=10`."""
    return [
        text
        for column in _method_columns(twins)
        if len({repr(other.get(column, ABSENT)) for other in twins}) > 1 and (text := _assignment(row, column))
    ]


def _methods(rows: Sequence[Row]) -> tuple[dict[tuple[str, ...], dict[int, Row]], list[str]]:
    """Rows by method (loss, digest, what was shared) and by seed, each once; and the runs whose copies disagree."""
    shared = _text_a_kind(lambda row: row.shared)
    copies: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for row in rows:
        method = copies.setdefault((str(row["loss"]), str(row["method_digest"]), shared(row)), {})
        method.setdefault(_seed(row), []).append(row)
    methods: dict[tuple[str, ...], dict[int, Row]] = {}
    contradicted = set()
    for name in sorted(copies):  # in an order of their own, whatever the reader's
        for seed, same in sorted(copies[name].items()):
            if len(same) > 1:  # where copies disagree, the one without numbers counts
                same.sort(key=lambda row: (row.ok, json.dumps(row.outcome, sort_keys=True)))
            first = methods.setdefault(name, {}).setdefault(seed, same[0])
            if any((first.ok, first.metrics) != (row.ok, row.metrics) for row in same[1:]):
                contradicted.add(f"run {first['run_id']}")
    return methods, sorted(contradicted)


def _table_place(table: Table) -> list[tuple[str, float, str]]:
    """By data set, trunk and protocol, then by the other shared columns; numbers by size."""
    names = dict.fromkeys(("dataset", "trunk", "protocol", *sorted(table.shared)))
    values = {name: table.shared.get(name, "") for name in names}
    return [(name, value if isinstance(value, int | float) else 0, str(value)) for name, value in values.items()]


def _seed(row: Row) -> int:
    return cast(int, row["seed"])


def _line_place(line: Line) -> tuple[int, str, str, str]:
    return (
        ORDER.index(line.loss) if line.loss in ORDER else len(ORDER),
        line.loss,
        line.label,
        line.method_digest,
    )


def _default_columns(rows: Sequence[Row], metrics: tuple[str, ...]) -> tuple[str, ...]:
    ok = [row for row in rows if row.ok]
    usual = [metric for metric in metrics if metric.startswith(("recall_at_", "r_precision", "map_at_r"))]
    usual += [metric for metric in metrics if metric in (f"{JOINED}recall_at_1", f"{JOINED}map_at_r")]
    return tuple(metric for metric in usual if all(metric in row.columns for row in ok))


def _labels(methods: Sequence[Row], alike: bool) -> list[str]:
    """A name in print for each method; those that share one are told apart by their differing values."""
    labels = [str(row.get("loss_label") or row["loss"]) + ("" if alike else f", {_made_by(row)}") for row in methods]
    told_apart = []
    for row, label in zip(methods, labels, strict=True):
        twins = [other for other, name in zip(methods, labels, strict=True) if name == label]
        values = _own_values(row, twins)
        told_apart.append(f"{label} ({', '.join(values)})" if values else label)
    return [
        label if told_apart.count(label) == 1 else f"{label} (digest {shown(row['method_digest' if alike else 'fingerprint'])})"
        for row, label in zip(methods, told_apart, strict=True)
    ]


def _values(rows: Sequence[Row], axis: Axis) -> list[str]:
    """A name in print for each value of an axis; those that share one are told apart by what else the axis owns."""
    labels = [axis.label(row) for row in rows]
    told_apart = []
    for row, label in zip(rows, labels, strict=True):
        twins = [other for other, shared in zip(rows, labels, strict=True) if shared == label]
        owned = dict.fromkeys(name for other in twins for name in other.shared if axis.owns(name))
        differing = [name for name in owned if len({repr(other.get(name, ABSENT)) for other in twins}) > 1]
        values = [f"{name}={shown(row.get(name, ABSENT))}" for name in differing]
        told_apart.append(f"{label} ({', '.join(values)})" if values else label)
    return told_apart


def _made_by(row: Row) -> str:
    """What a line of `vary=preset` is: a preset, or the fixed protocol that every loss had alike."""
    preset = row.get("preset") or "none"
    return f"fixed protocol {row['protocol']}" if preset == "none" else f"preset {preset}"


def _method_columns(rows: Sequence[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.columns)
    return [name for name in names if name == "loss" or (name.startswith("loss_") and name != "loss_label")]


def _assignment(row: Row, column: str) -> str:
    """`neg_margin=0.5` for the column loss_make_neg_margin, or nothing where the row lacks it."""
    if column not in row.columns:
        return ""
    value = shown(row[column])
    return value if column == "loss" else f"{re.sub('^loss_(make_)?', '', column)}={value}"


def _line(label: str, rows: Sequence[Row], metrics: Sequence[str], columns: Sequence[str], everyone: set[int]) -> Line:
    ok = [row for row in rows if row.ok]
    whole = len(ok) == len(rows)
    cells = {metric: _cell(rows, metric) if whole else None for metric in metrics}
    holes: dict[str, list[int]] = {}
    for row in rows:
        if not row.ok:
            how = MISSING if row["status"] == MISSING else "failed"
            holes.setdefault(f"{how}: {row.get('reason') or 'no reason given'}", []).append(_seed(row))
    notes = [f"{_seeds(seeds)} {reason}" for reason, seeds in holes.items()]
    for metric in columns:
        if whole and cells.get(metric) is None:
            without = (_seed(row) for row in rows if _number(row, metric) is None)
            notes.append(f"no {metric_label(metric)} for {_seeds(without)}")
    if lacking := everyone - {_seed(row) for row in rows}:
        notes.append(f"lacks {_seeds(lacking)}, which other methods have")
    notes += sentinels(ok)
    return Line(
        label=label,
        loss=str(rows[0]["loss"]),
        method_digest=str(rows[0]["method_digest"]),
        seeds=tuple(_seed(row) for row in ok),
        cells=cells,
        notes=tuple(notes),
    )


def _cell(rows: Sequence[Row], metric: str) -> Cell | None:
    values = [_number(row, metric) for row in rows]
    numbers = [value for value in values if value is not None]
    return Cell(*t_interval(numbers)) if len(numbers) == len(values) else None


def _number(row: Row, metric: str) -> float | None:
    value = row.columns.get(metric)
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _seeds(seeds: Iterable[int]) -> str:
    """`seed 1` or `seeds 1, 2`."""
    names = [str(seed) for seed in sorted(seeds)]
    return f"seed{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _highest(lines: Iterable[Line], metric: str) -> float | None:
    return max((cell.mean for line in lines if (cell := line.cells.get(metric))), default=None)


def _with_sentinels(lines: Sequence[Line]) -> list[Line]:
    """Mark the methods from which training took more than it gave."""
    floor = _highest((line for line in lines if line.loss == UNTRAINED), "map_at_r")
    marked = []
    for line in lines:
        cell = line.cells.get("map_at_r")
        if floor is not None and cell and line.loss != UNTRAINED and cell.mean < floor:
            line = replace(line, notes=(*line.notes, "its mean MAP@R is below the untrained trunk's"))
        marked.append(line)
    return marked


def _unbeaten(lines: Sequence[Line], columns: Sequence[str]) -> list[str]:
    metrics = []
    for metric in columns:
        floor = _highest((line for line in lines if line.loss == UNTRAINED), metric)
        best = _highest((line for line in lines if line.loss != UNTRAINED), metric)
        if floor is not None and best is not None and best <= floor:
            metrics.append(metric_label(metric))
    return [f"no method is above the untrained trunk in {', '.join(metrics)}"] if metrics else []


def _disagreement(rows: Sequence[Row], column: str, name: str) -> list[str]:
    values = sorted({shown(value) for value in {row.get(column) for row in rows} if value is not None})
    return [f"the rows come from different {name}: {', '.join(values)}"] if len(values) > 1 else []


def _caption(rows: Sequence[Row], lines: Sequence[Line], axis: Axis, tested: str) -> str:
    sentences = [_data_words(rows)]
    if rows[0]["protocol"] == EXTERNAL:
        stated = "" if rows[0]["trunk"] == EXTERNAL else f", by their own account from the trunk {rows[0]['trunk']}"
        sentences.append(
            f"Embeddings from elsewhere{stated}: how they were trained and chosen is not known here, and none is marked best"
        )
    elif not axis.is_preset:
        if not axis.is_loss:
            loss = rows[0].get("loss_label") or rows[0]["loss"]
            sentences.append(f"Lines differ in {axis.name} alone" + ("" if axis.owns("loss_label") else f"; loss {loss}"))
        if not axis.owns("trunk"):
            sentences.append(_trunk_words(rows[0]))
        sentences.append(_protocol_words(rows[0], axis))
    else:
        sentences.append(
            "Lines were not made alike: each has its preset's trunk, protocol and optimizer, and none is marked best"
        )
    sentences += [_selection_words(rows), _interval_words(lines), tested]
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _agreed(rows: Sequence[Row], column: str) -> Scalar:
    """The value that all rows with this column have; None where they differ or all lack it."""
    values = {row.get(column) for row in rows} - {None}
    return values.pop() if len(values) == 1 else None


def _data_words(rows: Sequence[Row]) -> str:
    counts = {"n_queries": "queries", "n_test_classes": "test classes"}
    numbers = [f"{value:,} {what}" for name, what in counts.items() if isinstance(value := _agreed(rows, name), int)]
    label = str(rows[0].get("dataset_label") or rows[0]["dataset"])
    return f"{label}: {', '.join(numbers)}" if numbers else label


def _trunk_words(row: Row) -> str:
    label = str(row.get("trunk_label") or row["trunk"])
    weights = row.get("trunk_weights")
    if weights in (None, "none"):
        return f"Trunk {label}, without pretrained weights"
    return f"Trunk {label}, weights {str(weights).rsplit('/', 1)[-1]}"


def _protocol_words(row: Row, axis: Axis) -> str:
    fields = {
        "protocol_epochs": "{} epochs",
        "protocol_batch_size": "batch {}",
        "protocol_embedding_dim": "{}-d embedding",
        "protocol_image_px": "{} px",
        "optimizer": "{}",
    }
    told = {name: words for name, words in fields.items() if row.get(name) is not None and not axis.owns(name)}
    main = [words.format(row[name]) for name, words in told.items()]
    if row.get("preset") not in (None, "none"):
        main.insert(0, f"preset {row['preset']}")
    version = "" if row.get("protocol_version") is None else f" (version {row['protocol_version']})"
    if axis.owns("protocol"):
        return ", ".join(main)
    return f"Protocol {row['protocol']}{version}" + (f": {', '.join(main)}" if main else "")


def _selection_words(rows: Sequence[Row]) -> str:
    trained = sorted({str(row["selected_on"]) for row in rows if row["loss"] != UNTRAINED and row.get("selected_on")})
    models = max((row["n_models"] for row in rows if isinstance(row.get("n_models"), int)), default=1)  # type: ignore[type-var]
    folds = f"; each number is the mean over {models} models, one a fold, unless joined"
    folds = folds if models > 1 else ""  # type: ignore[operator]
    return f"Selected: {', '.join(SELECTED.get(name, name) for name in trained)}{folds}" if trained else ""


def _interval_words(lines: Sequence[Line]) -> str:
    ns = {line.n for line in lines if any(line.cells.values())}
    if not ns:
        return "No run ended with numbers"
    if ns == {1}:
        return "One seed: no interval"
    seeds = f"{max(ns)} seeds" if len(ns) == 1 else "n seeds"
    single = "; one seed: no interval" if 1 in ns else ""
    return f"Mean ± 95 % interval of the mean over {seeds}, Student t{single}"
