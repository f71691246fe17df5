"""Fair comparison tables: rows are compared only where everything except the axis and the seed is equal.

    result rows --grouped by shared columns--> tables --one row per method--> cells: mean and interval over seeds

Rows that may not be compared are in different tables, and `differences` says why. Means are fractions; `render` writes percent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError, suggest
from dmlbench.results.column_specs import COLUMNS, Column
from dmlbench.results.columns import CHOICES, column
from dmlbench.results.formatting import format_value, metric_column, metric_label
from dmlbench.results.literature import SPLIT, PublishedResult, find_published
from dmlbench.results.metric_specs import CONCATENATED
from dmlbench.results.row import EXTERNAL, UNTRAINED, Row
from dmlbench.tables.axis import ABSENT, Axis, find_axis, recipe_notes, row_labels
from dmlbench.tables.bold import Bold, find_bold
from dmlbench.tables.caption import caption, details
from dmlbench.tables.costs import costs_of, machine_warning
from dmlbench.tables.table_row import ORACLE, TableRow, make_table_row, selection_differs, with_costs, with_oracle_gap
from dmlbench.tables.warnings import newest_versions, old_version_warning

# Order of the methods in print: pair losses, proxy losses, softmax losses with a margin. Other losses follow by name.
ORDER = (UNTRAINED, "contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")
# Which published results are printed below a rule: none, those with the table's trunk, or all of its data set, with ablations.
PUBLISHED = ("none", "same", "all")
_MUST_AGREE = tuple(one for one in COLUMNS if one.must_agree)


@dataclass(frozen=True)
class Table:
    """Methods that may be compared.

    Args:
        shared: Columns, with their values, in which all result rows agree.
        rows: One row per method, the untrained trunk first.
        metrics: All metrics of the result rows, in printed order.
        columns: Metrics to print.
        caption: Up to three sentences: data, protocol, what numbers and bold mean.
        details: Model selection, tests and costs, one sentence each.
        notes: Warnings about the whole table, one clause each.
        comparable: Whether rows differ only in the axis; otherwise none is the best.
        bold: Each tested metric to the labels of the methods that are not significantly worse than the best one.
        costs: Costs to print.
        oracle: Whether to print the oracle gap.
        published: Published results, not comparable, to print below a rule.
    """

    shared: Mapping[str, Scalar]
    rows: tuple[TableRow, ...]
    metrics: tuple[str, ...]
    columns: tuple[str, ...]
    caption: str
    details: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    comparable: bool = True
    bold: Mapping[str, frozenset[str]] = field(default_factory=dict)
    costs: tuple[Column, ...] = ()
    oracle: bool = False
    published: tuple[PublishedResult, ...] = ()

    @property
    def selection_differs(self) -> bool:
        """Whether methods differ in how their models were selected; otherwise `details` says it for all."""
        return selection_differs(self.rows)

    def best(self, metric: str) -> float | None:
        """Return the highest mean of a trained method, a fraction; None if there is none, or if rows are not comparable."""
        if not self.comparable:
            return None
        return _highest((row for row in self.rows if row.trained), metric)


@dataclass(frozen=True)
class _Options:
    """What to print, and whether to test; see `compare`."""

    metrics: tuple[str, ...]
    tested: bool
    oracle: bool
    cost: bool
    published: str
    config_dir: Path | None
    newest_versions: Mapping[str, int]


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
    """Make tables of all rows that may be compared.

    Args:
        rows: Result rows in any order; a run that is given twice counts once.
        vary: Axis, see `axes`: `loss`, `trunk`, `loss.make.alpha` and others.
        metrics: Metrics to print; empty for Recall@k, R-precision and MAP@R, if all rows have them.
        tested: Whether to test which methods are significantly worse than the best, from the scores of each query.
        oracle: Whether to print what choosing the epoch on the test set would have claimed, if rows have it.
        cost: Whether to print costs.
        published: Which published results to print below a rule, one of `PUBLISHED`.
        config_dir: Directory of the user's own configuration files, whose `published/` is read too.

    Returns:
        One table for each set of rows that agree in every shared column that the axis does not own, and on an axis other than
        the method also in the method. Of these, tables with one row are left out if there are others.

    Raises:
        UserError: There is no row, the axis or a metric is unknown, or no row has the oracle's column.
    """
    if not rows:
        raise UserError(
            "there is no finished run to make a table of; run `dmlbench sweep dataset=digits`, or name the directory of your "
            "runs: `dmlbench table DIRECTORY`"
        )
    axis = find_axis(vary, rows)
    for metric in metrics:
        if not any(metric in row.metrics for row in rows):
            known = {name for row in rows for name in row.metrics}
            raise UserError(f"--metrics {metric}: no row has this metric{suggest(metric, known)}")
    if oracle and not any(row.number(ORACLE) is not None for row in rows):
        raise UserError(f"--oracle: no row has the column {ORACLE}; `dmlbench train` and `sweep` write it with oracle=true")
    if published not in PUBLISHED:
        raise UserError(f"--published {published} is not known{suggest(published, PUBLISHED)}")
    options = _Options(tuple(dict.fromkeys(metrics)), tested, oracle, cost, published, config_dir, newest_versions(rows))
    groups: dict[str, list[Row]] = {}
    key = _text_of(axis.equal)
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    tables = sorted((_table(group, axis, options) for group in groups.values()), key=_table_sort_key)
    if axis.is_loss or axis.is_preset:
        return tables
    several = [table for table in tables if len(table.rows) > 1]  # a single row compares nothing
    return several or tables


def _text_of(columns_of: Callable[[Row], Mapping[str, Scalar]]) -> Callable[[Row], str]:
    """Return a function from a row to some of its columns as text, computed once for all rows of a kind."""
    known: dict[Hashable, str] = {}

    def text(row: Row) -> str:
        if row.kind not in known:
            known[row.kind] = json.dumps(columns_of(row), sort_keys=True)
        return known[row.kind]

    return text


def differences(tables: Sequence[Table]) -> dict[str, tuple[Scalar, ...]]:
    """Say why some tables are not one.

    Args:
        tables: What `compare` returned.

    Returns:
        Each shared column in which not all tables agree, with its value in each, or `ABSENT`.
    """
    columns = sorted({name for table in tables for name in table.shared})
    values = {name: tuple(table.shared.get(name, ABSENT) for table in tables) for name in columns}
    return {name: found for name, found in values.items() if len(set(map(repr, found))) > 1}


def differences_to_print(tables: Sequence[Table]) -> list[str]:
    """Return the columns in which tables differ although their captions do not show it.

    A column that the name of its configuration file determines is left out (`protocol_pooling`, if all tables of one
    `protocol` have the same pooling): the caption shows the name.
    """
    return [
        name
        for name in differences(tables)
        if not _shown(tables, name) and not any(_determines(tables, choice, name) for choice in _choices_of(name))
    ]


def _shown(tables: Sequence[Table], name: str) -> bool:
    """Whether the captions distinguish all values of a column; two trunks may have the same label."""
    if not column(name).caption:
        return False
    values = {repr(table.shared.get(name, ABSENT)) for table in tables}
    return len({_caption_text(table, name) for table in tables}) == len(values)


def _caption_text(table: Table, name: str) -> str:
    """What a caption says of a column."""
    value = table.shared.get(name)
    if value is None or (name == "preset" and value == "none"):
        return ""
    return str(table.rows[0].rows[0].get(f"{name}_label") or value)


def _choices_of(name: str) -> Iterable[str]:
    return (choice for choice, one in CHOICES.items() if name.startswith(one.brings))


def _determines(tables: Sequence[Table], choice: str, name: str) -> bool:
    """Whether the chosen file alone determines the column, in these tables."""
    pairs = {(repr(table.shared.get(choice)), repr(table.shared.get(name, ABSENT))) for table in tables}
    return len(pairs) == len({chosen for chosen, _ in pairs})


def _table(rows: Sequence[Row], axis: Axis, options: _Options) -> Table:
    methods, contradictory = _by_method(rows)
    unique = [row for seeds in methods.values() for row in seeds.values()]
    metrics = tuple(
        sorted({metric for row in unique for metric in row.metrics}, key=lambda metric: metric_column(metric).sort_key)
    )
    printed = options.metrics or _default_metrics(unique, metrics)
    costs = costs_of(unique) if options.cost else ()
    oracle = options.oracle and any(row.number(ORACLE) is not None for row in unique)
    comparable = not axis.is_preset and unique[0]["protocol"] != EXTERNAL
    firsts = [next(iter(seeds.values())) for seeds in methods.values()]
    labels = row_labels(firsts, axis)
    bold = find_bold(labels, methods.values(), printed, options.tested) if comparable else Bold()
    table_rows = _sorted_rows(labels, methods, axis, metrics, printed, costs, oracle)
    notes = [
        *(recipe_notes(labels, firsts, axis) if axis.is_preset else _unbeaten(table_rows, printed)),
        *old_version_warning(unique, options.newest_versions),
        *(f"{row} exists twice with different results; only one of them is used" for row in contradictory),
        *(note for one in _MUST_AGREE for note in _disagreement(unique, one)),
        *(machine_warning(unique) if any(cost.per_machine for cost in costs) else []),
    ]
    differs = selection_differs(table_rows)
    return Table(
        shared=axis.equal(unique[0]),
        rows=tuple(table_rows),
        metrics=metrics,
        columns=printed,
        caption=caption(unique, axis, {row.n for row in table_rows if any(row.cells.values())}, bold.meaning),
        details=(*details(unique, axis, differs, costs, oracle), *bold.details),
        notes=tuple(notes),
        comparable=comparable,
        bold=bold.best,
        costs=costs,
        oracle=oracle,
        published=tuple(_published(unique, printed, options)) if axis.is_loss or axis.is_preset else (),
    )


def _sorted_rows(
    labels: Sequence[str],
    methods: Mapping[tuple[str, ...], Mapping[int, Row]],
    axis: Axis,
    metrics: Sequence[str],
    printed: Sequence[str],
    costs: Sequence[Column],
    oracle: bool,
) -> list[TableRow]:
    """The rows of a table in printed order."""
    all_seeds = {seed for seeds in methods.values() for seed in seeds}
    rows = []
    for label, seeds in zip(labels, methods.values(), strict=True):
        row = make_table_row(label, [seeds[seed] for seed in sorted(seeds)], metrics, printed, all_seeds)
        rows.append(with_oracle_gap(with_costs(row, costs), oracle))
    if not (axis.is_loss or axis.is_preset):
        return sorted(rows, key=lambda row: axis.sort_key(row.rows[0]))
    rows = sorted(rows, key=_method_sort_key)
    return _with_baseline_notes(rows) if axis.is_loss else rows


def _published(rows: Sequence[Row], metrics: Sequence[str], options: _Options) -> list[PublishedResult]:
    """Published results on the same data set and split, with any trunk or with that of the rows."""
    if options.published == "none":
        return []
    everything = options.published == "all"
    return find_published(
        str(rows[0]["dataset"]),
        metrics,
        trunks=() if everything else {str(row["trunk"]) for row in rows},
        split=str(rows[0].get("split_rule") or SPLIT),
        ablations=everything,
        config_dir=options.config_dir,
    )


def _by_method(rows: Sequence[Row]) -> tuple[dict[tuple[str, ...], dict[int, Row]], list[str]]:
    """Group rows by method (loss, digest, shared columns) and by seed, each once; also return runs whose copies disagree."""
    shared = _text_of(lambda row: row.shared)
    copies: dict[tuple[str, ...], dict[int, list[Row]]] = {}
    for row in rows:
        method = copies.setdefault((str(row["loss"]), str(row["method_digest"]), shared(row)), {})
        method.setdefault(row.seed, []).append(row)
    methods: dict[tuple[str, ...], dict[int, Row]] = {}
    contradictory = set()
    for name in sorted(copies):  # independent of the order of reading
        for seed, same in sorted(copies[name].items()):
            if len(same) > 1:  # if copies disagree, the one without results is used
                same.sort(key=lambda row: (row.ok, json.dumps(row.outcome, sort_keys=True)))
            first = methods.setdefault(name, {}).setdefault(seed, same[0])
            if any((first.ok, first.metrics) != (row.ok, row.metrics) for row in same[1:]):
                contradictory.add(f"run {first['run_id']}")
    return methods, sorted(contradictory)


def _table_sort_key(table: Table) -> list[tuple[str, float, str]]:
    """Order tables by data set, trunk and protocol, then by the other shared columns; numbers by size."""
    names = dict.fromkeys(("dataset", "trunk", "protocol", *sorted(table.shared)))
    values = {name: table.shared.get(name, "") for name in names}
    return [(name, value if isinstance(value, int | float) else 0, str(value)) for name, value in values.items()]


def _method_sort_key(row: TableRow) -> tuple[int, str, str, str]:
    return (ORDER.index(row.loss) if row.loss in ORDER else len(ORDER), row.loss, row.label, row.method_digest)


def _default_metrics(rows: Sequence[Row], metrics: tuple[str, ...]) -> tuple[str, ...]:
    ok = [row for row in rows if row.ok]
    usual = [metric for metric in metrics if metric.startswith(("recall_at_", "r_precision", "map_at_r"))]
    usual += [metric for metric in metrics if metric in (f"{CONCATENATED}recall_at_1", f"{CONCATENATED}map_at_r")]
    return tuple(metric for metric in usual if all(metric in row.columns for row in ok))


def _highest(rows: Iterable[TableRow], metric: str) -> float | None:
    return max((cell.mean for row in rows if (cell := row.cells.get(metric))), default=None)


def _with_baseline_notes(rows: Sequence[TableRow]) -> list[TableRow]:
    """Add a footnote to methods that are worse than the untrained trunk."""
    baseline = _highest((row for row in rows if not row.trained), "map_at_r")
    marked = []
    for row in rows:
        cell = row.cells.get("map_at_r")
        if baseline is not None and cell and row.trained and cell.mean < baseline:
            row = replace(row, notes=(*row.notes, "its mean MAP@R is below that of the untrained trunk"))
        marked.append(row)
    return marked


def _unbeaten(rows: Sequence[TableRow], metrics: Sequence[str]) -> list[str]:
    names = []
    for metric in metrics:
        baseline = _highest((row for row in rows if not row.trained), metric)
        best = _highest((row for row in rows if row.trained), metric)
        if baseline is not None and best is not None and best <= baseline:
            names.append(metric_label(metric))
    return [f"no method exceeds the untrained trunk in {', '.join(names)}"] if names else []


def _disagreement(rows: Sequence[Row], one: Column) -> list[str]:
    values = sorted({format_value(value) for value in {row.get(one.name) for row in rows} if value is not None})
    return [f"the rows differ in {one.label}: {', '.join(values)}"] if len(values) > 1 else []
