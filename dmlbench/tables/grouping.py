"""Group result rows into tables, methods and seeds, and put tables and methods in printed order."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence

from dmlbench.config.identity import digest
from dmlbench.config.schema import Scalar
from dmlbench.errors import UserError, suggest
from dmlbench.results.row import BASELINES, Row
from dmlbench.tables.axis import Axis
from dmlbench.tables.consistency import without_contradiction
from dmlbench.tables.table_row import TableRow

# Order of the methods in print: baselines, pair losses, proxy losses, softmax losses with a margin; then others, by name.
ORDER = (*BASELINES, "contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")
# Loss, method digest, shared columns as text, and digest of the method's columns in the row.
MethodKey = tuple[str, str, str, str]


def group_by_table(rows: Sequence[Row], axis: Axis) -> list[list[Row]]:
    """Group rows that may be compared.

    Args:
        rows: Result rows in any order.
        axis: What may differ between compared rows.

    Returns:
        Groups of rows that agree in every column that the axis does not own.
    """
    groups: dict[str, list[Row]] = {}
    key = _text_by_kind(lambda row: json.dumps(axis.equal(row), sort_keys=True))
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def group_except(rows: Sequence[Row], columns: Mapping[str, Scalar], metric: str) -> list[list[tuple[Row, Row]]]:
    """Group rows that agree in every shared column, except for some columns, for a table of one metric over these columns.

    Args:
        rows: Result rows in any order.
        columns: Columns in which the rows of a group may differ, with a value that stands for all of theirs.
        metric: Metric of the table.

    Returns:
        Groups in printed order; each row with its copy in which these columns are replaced. A row that contradicts itself is
        returned as a failed one.

    Raises:
        UserError: No row has the metric.
    """
    known = {name for row in rows for name in row.metrics}
    if rows and metric not in known:
        raise UserError(f"--metrics {metric}: no row has this metric{suggest(metric, known)}")
    groups: dict[str, list[tuple[Row, Row]]] = {}
    for row in rows:
        replaced = Row({**row.columns, **{name: columns[name] for name in columns if name in row.columns}}, row.folder)
        groups.setdefault(json.dumps(replaced.shared, sort_keys=True), []).append((without_contradiction(row), replaced))
    return sorted(groups.values(), key=lambda group: table_sort_key(group[0][1].shared))


def group_by_method(rows: Sequence[Row]) -> tuple[dict[MethodKey, dict[int, Row]], list[str]]:
    """Group rows by method and seed.

    Args:
        rows: Result rows in any order; a run may be contained several times.

    Returns:
        Each method to its rows by seed, each run once; and the names of runs whose copies have different results.
    """
    shared = _text_by_kind(lambda row: json.dumps(row.shared, sort_keys=True))
    method_of = _text_by_kind(lambda row: digest(row.method))  # the recorded digest may be that of another row
    copies: dict[MethodKey, dict[int, list[Row]]] = {}
    for row in rows:
        key = (str(row["loss"]), str(row["method_digest"]), shared(row), method_of(row))
        by_seed = copies.setdefault(key, {})
        by_seed.setdefault(row.seed, []).append(row)
    methods: dict[MethodKey, dict[int, Row]] = {}
    contradictory = set()
    for method in sorted(copies):  # so that the result does not depend on the order of the rows
        for seed, same_run in sorted(copies[method].items()):
            if len(same_run) > 1:  # the first is used: a copy without results, or else the run rather than an evaluation of it
                same_run.sort(key=lambda row: (row.ok, row.get("parent") is not None, json.dumps(row.outcome, sort_keys=True)))
            first = methods.setdefault(method, {}).setdefault(seed, same_run[0])
            if any((first.ok, first.metrics) != (row.ok, row.metrics) for row in same_run[1:]):
                contradictory.add(f"run {first['run_id']}")
    return methods, sorted(contradictory)


def _text_by_kind(text_of: Callable[[Row], str]) -> Callable[[Row], str]:
    """Return a function that returns a text about shared columns and method, computed once for all rows of the same kind."""
    texts: dict[Hashable, str] = {}

    def text(row: Row) -> str:
        kind = row.kind
        found = texts.get(kind)
        if found is None:
            found = texts[kind] = text_of(row)
        return found

    return text


def table_sort_key(shared: Mapping[str, Scalar]) -> list[tuple[str, float, str]]:
    """Return a key that orders tables by data set, trunk and protocol, then by the other shared columns.

    Tables of training runs precede those of `dmlbench evaluate`.

    Args:
        shared: Shared columns of the table. Numbers are ordered by size.
    """
    names = dict.fromkeys(("evaluated", "dataset", "trunk", "protocol", *sorted(shared)))
    values = {name: shared.get(name, "") for name in names}
    values["evaluated"] = any(name.startswith("evaluation_") for name in shared)
    return [(name, value if isinstance(value, int | float) else 0, str(value)) for name, value in values.items()]


def method_sort_key(row: TableRow) -> tuple[int, str, str, str]:
    """Return a key that orders methods as in `ORDER`, others by name.

    Args:
        row: Row of the table.
    """
    return (ORDER.index(row.loss) if row.loss in ORDER else len(ORDER), row.loss, row.label, row.method_digest)
