"""Floor 4: rows set side by side, only where everything but the method and the seed is equal.

    rows --grouped by every shared column--> tables --one line a method--> cells: mean and interval over seeds

What may not be compared lands in another table, and `differences` says why. A hole is never averaged over: it
is a missing cell, and a note at its line says how it came about. Means are fractions; percent is `render`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dmlbench.axes import ABSENT, Axis, axis_of
from dmlbench.caption import caption
from dmlbench.costs import Cost, costs_of, machines_apart
from dmlbench.errors import UserError, suggest
from dmlbench.labels import labels_of, measured, metric_label, recipes, shown
from dmlbench.lines import ORACLE, Line, chosen_apart, line_of, seed_of, with_costs, with_oracle_gap
from dmlbench.marks import even_with_best
from dmlbench.measures import JOINED
from dmlbench.published import SPLIT, Published, published_for
from dmlbench.rows import EXTERNAL, SHARED, UNTRAINED, Row, Scalar
from dmlbench.sentinels import outdated

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
    "loss",
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
# Which published results stand below a table's rule: none, those of its trunk, or all of its data set, ablations too.
PUBLISHED = ("none", "same", "all")


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
        even: each metric that was tested to the labels of the methods that cannot be told from the best, itself included.
        costs: to print, beside the metrics.
        oracle: whether to print the oracle gap.
        published: results of others, not made alike, to print below a rule.
    """

    shared: Mapping[str, Scalar]
    lines: tuple[Line, ...]
    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    caption: str
    notes: tuple[str, ...] = ()
    alike: bool = True
    even: Mapping[str, frozenset[str]] = field(default_factory=dict)
    costs: tuple[Cost, ...] = ()
    oracle: bool = False
    published: tuple[Published, ...] = ()

    @property
    def chosen_apart(self) -> bool:
        """Whether lines differ in how their models were chosen; else the caption tells it of all."""
        return chosen_apart(self.lines)

    def best(self, metric: str) -> float | None:
        """The highest mean of a trained method, a fraction; None where there is none, or where lines are not made alike."""
        if not self.alike:
            return None
        return _highest((line for line in self.lines if line.trained), metric)


@dataclass(frozen=True)
class _Asked:
    """What to print, and whether to test: see `compare`."""

    metrics: tuple[str, ...]
    tested: bool
    oracle: bool
    cost: bool
    published: str
    config_dir: Path | None


def compare(
    rows: Sequence[Row],
    vary: str = "loss",
    metrics: Sequence[str] = (),
    tested: bool = True,
    oracle: bool = False,
    cost: bool = True,
    published: str = "same",
    config_dir: Path | None = None,
) -> list[Table]:
    """Set rows side by side wherever that is fair.

    Args:
        rows: in any order; a run given twice counts once.
        vary: the axis whose values make the lines of a table, see `axes`: `loss`, `trunk`, `loss.make.alpha` ...
        metrics: what to print; empty for Recall@k, R-precision and MAP@R, as far as all rows have them.
        tested: whether to look which methods cannot be told from the best, from the scores of each query.
        oracle: whether to print what choosing the epoch on the test set would have claimed, as far as rows know it.
        cost: whether to print the cost beside the quality.
        published: which results of others stand below the rule, one of `PUBLISHED`.
        config_dir: a folder of the user's own configurations, whose `published/` counts too.

    Returns:
        One table for each set of rows that agree in every shared column (`rows.is_shared`) that the axis does not own, and on
        an axis other than the method in the method too; of these, tables of one line are left out where there are others.

    Raises:
        UserError: there is no row; an axis, a metric or a choice is not known; or no row knows what the oracle would have
            chosen.
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
    if oracle and not any(row.number(ORACLE) is not None for row in rows):
        raise UserError(f"--oracle: no row has the column {ORACLE}; `dmlbench train` and `sweep` write it with oracle=true")
    if published not in PUBLISHED:
        raise UserError(f"--published {published} is not known{suggest(published, PUBLISHED)}")
    asked = _Asked(tuple(dict.fromkeys(metrics)), tested, oracle, cost, published, config_dir)
    groups: dict[str, list[Row]] = {}
    equal = _text_a_kind(axis.equal)
    for row in rows:
        groups.setdefault(equal(row), []).append(row)
    tables = sorted((_table(group, axis, asked) for group in groups.values()), key=_table_place)
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
        if not _told(tables, name) and not any(_follows(tables, name, family) for family in _families(name))
    ]


def _told(tables: Sequence[Table], column: str) -> bool:
    """Whether the captions tell apart all values of a column; two trunks may have the same label."""
    if column not in CAPTION_COLUMNS:
        return False
    values = {repr(table.shared.get(column, ABSENT)) for table in tables}
    return len({_words(table, column) for table in tables}) == len(values)


def _words(table: Table, column: str) -> str:
    """What a caption says of a column."""
    value = table.shared.get(column)
    if value is None or (column == "preset" and value == "none"):
        return ""
    return str(table.lines[0].rows[0].get(f"{column}_label") or value)


def _families(column: str) -> Iterable[str]:
    if column.startswith("split_"):
        return ("dataset",)
    return (name for name in ("loss", *SHARED) if column.startswith(f"{name}_"))


def _follows(tables: Sequence[Table], column: str, family: str) -> bool:
    """Whether the family's name alone decides the column, in these tables."""
    pairs = {(repr(table.shared.get(family)), repr(table.shared.get(column, ABSENT))) for table in tables}
    return len(pairs) == len({name for name, _ in pairs})


def _table(rows: Sequence[Row], axis: Axis, asked: _Asked) -> Table:
    methods, contradicted = _methods(rows)
    unique = [row for seeds in methods.values() for row in seeds.values()]
    everyone = {seed_of(row) for row in unique}
    metrics = tuple(sorted({metric for row in unique for metric in row.metrics}, key=lambda metric: measured(metric).place))
    columns = asked.metrics or _default_columns(unique, metrics)
    costs = costs_of(unique) if asked.cost else ()
    oracle = asked.oracle and any(row.number(ORACLE) is not None for row in unique)
    firsts = [next(iter(seeds.values())) for seeds in methods.values()]
    labels = labels_of(firsts, axis)
    lines = []
    for label, seeds in zip(labels, methods.values(), strict=True):
        line = line_of(label, [seeds[seed] for seed in sorted(seeds)], metrics, columns, everyone)
        lines.append(with_oracle_gap(with_costs(line, costs), oracle))
    if axis.is_loss or axis.is_preset:
        lines = sorted(lines, key=_line_place)
    else:
        by_label = {label: axis.place(row) for label, row in zip(labels, firsts, strict=True)}
        lines = sorted(lines, key=lambda line: by_label[line.label])
    if axis.is_loss:
        lines = _with_sentinels(lines)
    notes = [
        *(recipes(labels, firsts, axis) if axis.is_preset else _unbeaten(lines, columns)),
        *outdated(unique),
        *(f"{row} is there twice with different numbers; only one of them counts" for row in contradicted),
        *(note for column, name in SHOULD_AGREE.items() for note in _disagreement(unique, column, name)),
        *(machines_apart(unique) if any(cost.by_machine for cost in costs) else []),
    ]
    marked = not axis.is_preset and unique[0]["protocol"] != EXTERNAL
    even, said = even_with_best(labels, methods.values(), columns) if marked and asked.tested else ({}, "")
    ns = {line.n for line in lines if any(line.cells.values())}
    return Table(
        shared=axis.equal(unique[0]),
        lines=tuple(lines),
        metrics=metrics,
        columns=columns,
        caption=caption(unique, axis, ns, said, chosen_apart(lines), costs, oracle),
        notes=tuple(notes),
        alike=marked,
        even=even,
        costs=costs,
        oracle=oracle,
        published=tuple(_published(unique, columns, asked)) if axis.is_loss or axis.is_preset else (),
    )


def _published(rows: Sequence[Row], columns: Sequence[str], asked: _Asked) -> list[Published]:
    """What others published of the same data set under the same split; of all trunks, or of those of the rows."""
    if asked.published == "none":
        return []
    everything = asked.published == "all"
    return published_for(
        str(rows[0]["dataset"]),
        columns,
        trunks=() if everything else {str(row["trunk"]) for row in rows},
        split=str(rows[0].get("split_rule") or SPLIT),
        ablations=everything,
        config_dir=asked.config_dir,
    )


def _methods(rows: Sequence[Row]) -> tuple[dict[tuple[str, ...], dict[int, Row]], list[str]]:
    """Rows by method (loss, digest, what was shared) and by seed, each once; and the runs whose copies disagree."""
    shared = _text_a_kind(lambda row: row.shared)
    copies: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for row in rows:
        method = copies.setdefault((str(row["loss"]), str(row["method_digest"]), shared(row)), {})
        method.setdefault(seed_of(row), []).append(row)
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


def _highest(lines: Iterable[Line], metric: str) -> float | None:
    return max((cell.mean for line in lines if (cell := line.cells.get(metric))), default=None)


def _with_sentinels(lines: Sequence[Line]) -> list[Line]:
    """Mark the methods from which training took more than it gave."""
    floor = _highest((line for line in lines if not line.trained), "map_at_r")
    marked = []
    for line in lines:
        cell = line.cells.get("map_at_r")
        if floor is not None and cell and line.trained and cell.mean < floor:
            line = replace(line, notes=(*line.notes, "its mean MAP@R is below the untrained trunk's"))
        marked.append(line)
    return marked


def _unbeaten(lines: Sequence[Line], columns: Sequence[str]) -> list[str]:
    metrics = []
    for metric in columns:
        floor = _highest((line for line in lines if not line.trained), metric)
        best = _highest((line for line in lines if line.trained), metric)
        if floor is not None and best is not None and best <= floor:
            metrics.append(metric_label(metric))
    return [f"no method is above the untrained trunk in {', '.join(metrics)}"] if metrics else []


def _disagreement(rows: Sequence[Row], column: str, name: str) -> list[str]:
    values = sorted({shown(value) for value in {row.get(column) for row in rows} if value is not None})
    return [f"the rows come from different {name}: {', '.join(values)}"] if len(values) > 1 else []
