"""The Python interface: evaluate embeddings, read results, and make comparison tables, without the command line."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmlbench.errors import DmlbenchError, UserError, suggest

if TYPE_CHECKING:
    import pandas as pd

    from dmlbench.config.schema import Scalar
    from dmlbench.evaluation.arrays import Labels, Matrix
    from dmlbench.evaluation.evaluator import Distance
    from dmlbench.results.row import Row

PATH = "path"  # column of a frame: directory of the run
DEFAULT_KS = (1, 2, 4, 8)
DISTANCES = ("cosine", "inner_product", "euclidean")
DTYPES = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}
MAX_SKIPPED = 3  # skipped files that a warning names


def evaluate(
    embeddings: Matrix,
    labels: Labels,
    *,
    gallery: Matrix | None = None,
    gallery_labels: Labels | None = None,
    distance: Distance = "cosine",
    ks: Sequence[int] | None = None,
    clusters_per_class: int | None = None,
) -> dict[str, float | int | str]:
    """Compute all metrics of embeddings, exactly and with the expected value for ties.

    Args:
        embeddings: Numbers `(N, D)`, one row per query, as a torch tensor, a NumPy array or nested lists. They are converted
            to float32.
        labels: Class of each query, `(N,)`: integers or texts.
        gallery: Embeddings `(G, D)` to search. None searches among the queries themselves; each query is then left out of
            its own results.
        gallery_labels: Class of each gallery item, `(G,)`; needed with `gallery`.
        distance: `cosine`, `inner_product` or `euclidean`.
        ks: Values of k for Recall@k, Precision@k and Retrieved@k. None means 1, 2, 4 and 8.
        clusters_per_class: Number of k-means clusters per class. 0 disables clustering; None means 1, or 0 for more than
            1,000 classes.

    Returns:
        Column name to value, as in a result row: `recall_at_1`, `map_at_r`, `nmi` and others, and counts. Fractions in [0, 1].
        Metrics that the data does not define are left out.

    Raises:
        UserError: Shapes do not fit, an embedding is not finite, or nothing can be retrieved.

    >>> found = evaluate([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], [0, 0, 1, 1], ks=(1,))
    >>> found["recall_at_1"], found["map_at_r"]
    (1.0, 1.0)
    """
    from dmlbench.evaluation.arrays import embeddings_from_arrays
    from dmlbench.evaluation.evaluator import EvaluationConfig, refuse_impossible
    from dmlbench.evaluation.evaluator import evaluate as compute

    if distance not in DISTANCES:
        raise UserError(f"distance is {distance!r}{suggest(str(distance), DISTANCES)}")
    if clusters_per_class is not None and not _is_integer(clusters_per_class, at_least=0):
        raise UserError(f"clusters_per_class is {clusters_per_class!r}; it needs an integer of at least 0, or None")
    config = EvaluationConfig(_ks(ks), clusters_per_class=clusters_per_class, distance=distance, all_ks=ks is not None)
    items = embeddings_from_arrays(embeddings, labels, gallery, gallery_labels)
    refuse_impossible(items, config)
    try:
        columns = compute(items, config).columns
    except DmlbenchError as error:
        raise UserError(str(error)) from None
    return {name: value for name, value in columns.items() if value is not None}


def _ks(ks: Any) -> tuple[int, ...]:
    """Return the values of k, ascending."""
    if ks is None:
        return DEFAULT_KS
    values = list(ks) if isinstance(ks, Iterable) and not isinstance(ks, str) else []
    if not values or not all(_is_integer(k, at_least=1) for k in values):
        raise UserError(f"ks is {ks!r}; it needs one or more integers of at least 1, such as (1, 10)")
    return tuple(sorted({operator.index(k) for k in values}))


def _is_integer(value: Any, at_least: int) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool) and operator.index(value) >= at_least


def load_results(*runs: str | Path) -> pd.DataFrame:
    """Read all result rows at or below some directories.

    Files that are not rows are skipped with a warning.

    Args:
        runs: Directories or `row.json` files; `runs` if none is given.

    Returns:
        One line per row, with the columns of docs/columns.md under nullable dtypes, and `path`, the run's directory. Fractions
        in [0, 1], times in seconds, memory in GiB. Runs without a row have the status `missing`.

    Raises:
        UserError: A directory does not exist, or a named file is not a row.
    """
    from dmlbench.results.columns import REQUIRED
    from dmlbench.results.row_files import read_rows

    paths = [Path(one) for one in runs or ("runs",)]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; name a directory that contains runs")
    rows, skipped = read_rows(*paths)
    if skipped:
        named = "; ".join(f"{file}: {reason}" for file, reason in skipped[:MAX_SKIPPED])
        warnings.warn(f"skipped {len(skipped)} files that are not rows, first {named}", UserWarning, stacklevel=2)
    records = [{**row.columns, PATH: None if row.folder is None else str(row.folder)} for row in rows]
    return _typed_frame(records, {name: DTYPES[kind] for name, kind in REQUIRED.items()} | {PATH: "string"})


def _typed_frame(records: Sequence[Mapping[str, Any]], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Return a frame with nullable dtypes.

    Args:
        records: Lines of the frame.
        dtypes: Known dtypes. The frame has these columns even if no line has them.
    """
    import pandas as pd

    columns = {}
    for name in dict.fromkeys([*(name for record in records for name in record), *dtypes]):
        values = [record.get(name) for record in records]
        dtype = dtypes.get(name) or _dtype(name, {type(value) for value in values if value is not None})
        try:
            columns[name] = pd.Series(values, dtype=dtype)
        except OverflowError:  # an integer beyond int64
            columns[name] = pd.Series(values, dtype="object")
    return pd.DataFrame(columns)


def _dtype(name: str, types: set[type]) -> str:
    """Choose the dtype of a column from the types of its values. Metrics are always Float64, also if all are missing."""
    from dmlbench.results.columns import column
    from dmlbench.results.metric_specs import parse_metric

    is_measured = parse_metric(name) is not None or (not types and column(name).unit in ("s", "GiB"))
    if types <= {int, float} and (is_measured or float in types):
        return "Float64"
    return DTYPES[types.pop()] if len(types) == 1 else "object"


def compare_table(
    frame: pd.DataFrame, vary: str = "loss", metrics: Sequence[str] | str = (), tested: bool = True
) -> pd.DataFrame:
    """Make fair comparison tables: rows are compared only if everything except the axis and the seed is equal.

    Args:
        frame: What `load_results` returned, or some of its lines.
        vary: What may differ between the rows of a table; see `dmlbench table --help`.
        metrics: Metrics to compare; empty for Recall@k, R-precision and MAP@R.
        tested: Whether to test significance.

    Returns:
        One line per method: `table` (from 1), `dataset`, `trunk`, `protocol`, `method` (its label), `n` (seeds with results),
        and for each metric `<metric>` (mean over seeds, a fraction), `<metric>_half_width` (of its 95 % interval) and
        `<metric>_best` (whether a table prints it in bold); then `notes`.

    Raises:
        UserError: There is no row, or the axis or a metric is unknown.
    """
    from dmlbench.tables.formats.cells import is_bold
    from dmlbench.tables.table import compare

    chosen = [metrics] if isinstance(metrics, str) else metrics
    try:
        # A frame has no empty columns, so digests cannot be recomputed.
        tables = compare(_rows_of(frame), vary, metrics=chosen, tested=tested, published="none", complete=False)
    except UserError as error:  # it names options of the command line
        raise UserError(
            re.sub(r"^--(vary|metrics) (.*?)(?=:? (?:is not an axis|no row has))", r"\1='\2'", str(error))
        ) from None
    lines: list[dict[str, Any]] = []
    dtypes: dict[str, str] = {}
    for number, table in enumerate(tables, 1):
        for row in table.rows:
            line: dict[str, Any] = {
                "table": number,
                **{name: row.rows[0].get(name) for name in ("dataset", "trunk", "protocol")},
                "method": row.label,
                "n": row.n,
            }
            for metric in table.columns:
                cell = row.cells.get(metric)
                half_width, is_best = f"{metric}_half_width", f"{metric}_best"
                dtypes |= {metric: "Float64", half_width: "Float64", is_best: "boolean"}
                line[metric] = cell.mean if cell else None
                line[half_width] = cell.half_width if cell else None
                line[is_best] = is_bold(table, row, metric)
            lines.append(line | {"notes": "; ".join(row.notes)})
    made = _typed_frame(lines, dtypes)
    return made[[*made.columns.drop("notes"), "notes"]]


def _rows_of(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame. A row does not have the columns that are missing in its line."""
    import pandas as pd

    from dmlbench.results.row import Row

    rows = []
    for record in frame.to_dict("records"):
        columns = {str(name): _scalar(value) for name, value in record.items() if name != PATH and not pd.isna(value)}
        path = record.get(PATH)
        rows.append(Row(columns, None if path is None or pd.isna(path) else Path(str(path))))
    return rows


def _scalar(value: Any) -> Scalar:
    """Return a value as a plain Python object."""
    return value.item() if hasattr(value, "item") else value
