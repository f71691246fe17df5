"""Fair comparison tables: rows are compared only if everything except the axis and the seed is equal.

    result rows --group_by_table--> tables --group_by_method--> one row per method --> cells: mean and interval over seeds

Rows that may not be compared are in different tables; `table_differences` says why. Means are fractions; `formats` converts
them to percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError, suggest
from dmlbench.results.column_specs import COLUMNS, Column
from dmlbench.results.formatting import format_value, metric_column
from dmlbench.results.literature import SPLIT, PublishedResult, find_published
from dmlbench.results.metric_specs import CONCATENATED, FULL, parse_metric
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.tables.axis import Axis, find_axis
from dmlbench.tables.baseline import unbeaten_baseline, with_baseline_notes
from dmlbench.tables.bold import Bold, find_bold
from dmlbench.tables.caption import caption, details
from dmlbench.tables.consistency import Consistency
from dmlbench.tables.costs import costs_of, machine_warning
from dmlbench.tables.drawn_queries import query_notes
from dmlbench.tables.grouping import ORDER, MethodKey, group_by_method, group_by_table, method_sort_key, table_sort_key
from dmlbench.tables.row_labels import recipe_notes, row_labels
from dmlbench.tables.table_row import (
    ORACLE,
    TableRow,
    make_table_row,
    selection_differs,
    with_consistency,
    with_costs,
    with_oracle_gap,
)
from dmlbench.tables.warnings import newest_versions, old_version_warning, split_warnings

__all__ = ["ORDER", "PUBLISHED", "Table", "compare"]

# Which published results to print: none, those with the table's trunk, or those with any trunk and ablations.
PUBLISHED = ("none", "same", "all")
_MUST_AGREE = tuple(one for one in COLUMNS if one.must_agree)


@dataclass(frozen=True)
class Table:
    """Methods that may be compared.

    Args:
        shared: Columns in which all result rows agree, with their values.
        rows: One row per method, baselines first.
        metrics: All metrics of the result rows, in printed order.
        columns: Metrics to print.
        caption: Up to three sentences: data, protocol, and the meaning of numbers and bold.
        details: Model selection, costs and tests, one sentence each, without a full stop.
        notes: Warnings about the whole table, one sentence each, without a full stop.
        comparable: Whether rows differ only in the axis. Otherwise, no row is marked as best.
        bold: Metric to the labels of the methods whose numbers are bold; see `tables.bold`.
        costs: Costs to print.
        oracle: Whether to print the oracle gap.
        published: Published results to print below a rule; they are not comparable.
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
        """Whether methods differ in how their models were selected; otherwise, `details` states it for all."""
        return selection_differs(self.rows)


@dataclass(frozen=True)
class _Options:
    """Arguments of `compare`, and the newest version of each protocol."""

    metrics: tuple[str, ...]
    tested: bool
    oracle: bool
    cost: bool
    published: str
    config_dir: Path | None
    complete: bool
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
    complete: bool = True,
) -> list[Table]:
    """Make tables of all rows that may be compared.

    Args:
        rows: Result rows in any order; a run that is given twice counts once.
        vary: Axis: `loss`, `trunk`, `loss.make.alpha` and others; see `axis`.
        metrics: Metrics to print; empty for Recall@k, R-precision and MAP@R, if all rows have them.
        tested: Whether to test which methods are significantly worse than the best one, using per-query scores.
        oracle: Whether to print what choosing the epoch on the test set would have claimed, if rows have it.
        cost: Whether to print costs.
        published: Which published results to print below a rule, one of `PUBLISHED`.
        config_dir: Directory of the user's own configuration files, whose `published/` is read too.
        complete: Whether the rows have all columns of their files. Otherwise, their digests are not recomputed.

    Returns:
        One table for each set of rows that agree in every shared column that the axis does not own and, on an axis other than
        the method, also in the method. If some of these have several rows, tables with a single row are left out.

    Raises:
        UserError: There is no row, the axis or a metric is unknown, or no row has the oracle's column.
    """
    if not rows:
        raise UserError(
            "there is no finished run to make a table of; run `dmlbench sweep`, or name the directory of your runs: "
            "`dmlbench table DIRECTORY`"
        )
    axis = find_axis(vary, rows)
    _refuse_unknown(rows, metrics, oracle, published)
    options = _Options(
        tuple(dict.fromkeys(metrics)), tested, oracle, cost, published, config_dir, complete, newest_versions(rows)
    )
    tables = [_table(group, axis, options) for group in group_by_table(rows, axis)]
    tables.sort(key=lambda table: table_sort_key(table.shared))
    if axis.is_loss or axis.is_preset:
        return tables
    return [table for table in tables if len(table.rows) > 1] or tables  # a single row compares nothing


def _refuse_unknown(rows: Sequence[Row], metrics: Sequence[str], oracle: bool, published: str) -> None:
    for metric in metrics:
        if not any(metric in row.metrics for row in rows):
            known = {name for row in rows for name in row.metrics}
            raise UserError(f"--metrics {metric}: no row has this metric{suggest(metric, known)}")
    if oracle and not any(row.number(ORACLE) is not None for row in rows):
        raise UserError(f"--oracle: no row has the column {ORACLE}; `dmlbench train` and `sweep` write it with oracle=true")
    if published not in PUBLISHED:
        raise UserError(f"--published {published} is not known{suggest(published, PUBLISHED)}")


def _table(rows: Sequence[Row], axis: Axis, options: _Options) -> Table:
    methods, contradictory = group_by_method(rows)
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
    consistency = Consistency(unique, printed, options.complete)
    bold = find_bold(labels, methods.values(), printed, options.tested, consistency) if comparable else Bold()
    table_rows = _sorted_rows(labels, methods, axis, metrics, printed, costs, oracle, consistency)
    warnings = [
        *([] if axis.is_preset else unbeaten_baseline(table_rows, printed)),
        *old_version_warning(unique, options.newest_versions),
        *split_warnings(unique),
        *(f"{row} exists twice with different results; only one of them is used" for row in contradictory),
        *(warning for one in _MUST_AGREE for warning in _disagreement(unique, one)),
        *(machine_warning(unique) if any(cost.per_machine for cost in costs) else []),
    ]
    differs = selection_differs(table_rows)
    return Table(
        shared=axis.equal(unique[0]),
        rows=tuple(table_rows),
        metrics=metrics,
        columns=printed,
        caption=caption(unique, axis, {row.n for row in table_rows if any(row.cells.values())}, bold.meaning),
        details=(*details(unique, axis, differs, costs, oracle), *query_notes(unique, printed), *bold.details),
        notes=(*(recipe_notes(labels, firsts, axis) if axis.is_preset else []), *map(_capitalized, warnings)),
        comparable=comparable,
        bold=bold.best,
        costs=costs,
        oracle=oracle,
        published=tuple(_published(unique, printed, options)) if axis.is_loss or axis.is_preset else (),
    )


def _capitalized(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}"


def _sorted_rows(
    labels: Sequence[str],
    methods: Mapping[MethodKey, Mapping[int, Row]],
    axis: Axis,
    metrics: Sequence[str],
    printed: Sequence[str],
    costs: Sequence[Column],
    oracle: bool,
    consistency: Consistency,
) -> list[TableRow]:
    """Return the rows of a table in printed order."""
    all_seeds = {seed for seeds in methods.values() for seed in seeds}
    rows = []
    for label, seeds in zip(labels, methods.values(), strict=True):
        row = make_table_row(label, [seeds[seed] for seed in sorted(seeds)], metrics, printed, all_seeds)
        rows.append(with_consistency(with_oracle_gap(with_costs(row, costs), oracle), consistency.note(row.rows)))
    if not (axis.is_loss or axis.is_preset):
        return sorted(rows, key=lambda row: axis.sort_key(row.rows[0]))
    rows = sorted(rows, key=method_sort_key)
    return with_baseline_notes(rows) if axis.is_loss else rows


def _published(rows: Sequence[Row], metrics: Sequence[str], options: _Options) -> list[PublishedResult]:
    """Find published results on the same data set and split, with any trunk or with the trunks of the rows."""
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
        clusters_per_class=_clusters(rows[0]),
    )


def _clusters(row: Row) -> int:
    """Clusters per class of the clustering metrics of a row."""
    value = row.get("evaluation_clusters", row.get("protocol_clusters_per_class", 1))
    return value if isinstance(value, int) else 1


def _default_metrics(rows: Sequence[Row], metrics: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics that are printed by default, if all rows with results have them.

    With a full gallery, these are Precision@k and Retrieved@k in both galleries. If models are selected by clustering,
    clustering metrics come first. Metrics of attributes are printed if a method has them.
    """
    ok = [row for row in rows if row.ok]
    if any(metric.startswith(FULL) for metric in metrics):  # Tables II and III of Yuan et al., side by side
        columns = [metric for metric in metrics if metric.removeprefix(FULL).startswith(("precision_at_", "retrieved_at_"))]
        if columns and all(metric in row.columns for metric in columns for row in ok):
            return tuple(columns)
    selection = parse_metric(str(rows[0].get("protocol_selection_metric")))
    by_clustering = selection is not None and selection.spec.kind == "clustering"  # Table 1 of Shah
    usual = [metric for metric in metrics if by_clustering and metric in ("pairwise_f1", "nmi", "purity")]
    usual += [metric for metric in metrics if metric.startswith(("recall_at_", "r_precision", "map_at_r"))]
    usual += [metric for metric in metrics if metric in (f"{CONCATENATED}recall_at_1", f"{CONCATENATED}map_at_r")]
    of_attributes = [metric for metric in metrics if metric.startswith("attribute_")]  # only some methods predict attributes
    return (*(metric for metric in usual if all(metric in row.columns for row in ok)), *of_attributes)


def _disagreement(rows: Sequence[Row], one: Column) -> list[str]:
    """Return a clause if rows differ in a column in which they should agree."""
    values = sorted({format_value(value) for value in {row.get(one.name) for row in rows} if value is not None})
    return [f"the rows differ in {one.label}: {', '.join(values)}"] if len(values) > 1 else []
