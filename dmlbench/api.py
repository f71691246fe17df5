"""The Python interface: evaluate embeddings, read results, and make comparison tables, without the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmlbench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from dmlbench.evaluation.evaluator import Distance
    from dmlbench.results.row import Row

    Array = np.ndarray | torch.Tensor

PATH = "path"  # column of a frame: directory of the run


def evaluate(
    embeddings: Array,
    labels: Array | Sequence[int] | Sequence[str],
    *,
    gallery: Array | None = None,
    gallery_labels: Array | Sequence[int] | Sequence[str] | None = None,
    distance: Distance = "cosine",
    ks: Sequence[int] = (1, 2, 4, 8),
    clusters_per_class: int | None = None,
) -> dict[str, float | int | str]:
    """Compute all metrics of embeddings, exactly and with the expected value for ties.

    Args:
        embeddings: Torch tensor or NumPy array `(N, D)` of numbers, one row per query; converted to float32.
        labels: Class of each query, `(N,)`: whole numbers or texts.
        gallery: Embeddings `(G, D)` to search. None searches among the queries themselves; each query is then left out of
            its own results.
        gallery_labels: Class of each gallery item, `(G,)`; needed with `gallery`.
        distance: `cosine`, `inner_product` or `euclidean`.
        ks: Values of k for Recall@k, Precision@k and Retrieved@k.
        clusters_per_class: Number of k-means clusters per class. 0 disables clustering; None means 1, or 0 for more than
            1,000 classes.

    Returns:
        Column name to value, as in a result row: `recall_at_1`, `map_at_r`, `nmi` and others, and counts. Fractions in [0, 1].

    Raises:
        UserError: Shapes do not fit, or nothing can be retrieved.
        MethodFailure: An embedding is not finite.

    >>> found = evaluate([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]], [0, 0, 1, 1], ks=(1,))
    >>> found["recall_at_1"], found["map_at_r"]
    (1.0, 1.0)
    """
    import numpy as np
    import torch

    from dmlbench.evaluation.embedding_files import Embeddings
    from dmlbench.evaluation.evaluator import EvaluationConfig
    from dmlbench.evaluation.evaluator import evaluate as compute

    if (gallery is None) != (gallery_labels is None):
        raise UserError("gallery and gallery_labels have to be given together")
    rows, classes = _rows("embeddings", embeddings), _labels("labels", labels)
    is_query = np.ones(len(rows), dtype=bool)
    is_gallery = is_query
    _refuse_mismatch("embeddings", rows, "labels", classes)
    if gallery is not None and gallery_labels is not None:
        more, more_classes = _rows("gallery", gallery), _labels("gallery_labels", gallery_labels)
        _refuse_mismatch("gallery", more, "gallery_labels", more_classes)
        if rows.shape[1] != more.shape[1]:
            raise UserError(f"embeddings have {rows.shape[1]} dimensions, but gallery has {more.shape[1]}")
        is_query = np.arange(len(rows) + len(more)) < len(rows)
        is_gallery = ~is_query
        rows, classes = np.concatenate([rows, more]), np.concatenate([classes, more_classes])
    numbers = np.unique(classes, return_inverse=True)[1] if classes.dtype.kind in "OSUT" else classes
    items = Embeddings(
        rows=torch.from_numpy(np.ascontiguousarray(rows)),
        labels=torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64)),
        ids=torch.arange(len(rows)),
        is_query=torch.from_numpy(is_query),
        is_gallery=torch.from_numpy(is_gallery),
    )
    config = EvaluationConfig(ks=tuple(sorted(set(ks))), clusters_per_class=clusters_per_class, distance=distance)
    if not config.ks or min(config.ks) < 1:
        raise UserError(f"ks is {tuple(ks)}; it needs one or more values of at least 1")
    return {name: value for name, value in compute(items, config).columns.items() if value is not None}


def _rows(name: str, values: Any) -> np.ndarray:
    import numpy as np

    array = _array(values)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise UserError(f"{name} has shape {array.shape} and type {array.dtype}; it needs numbers of shape (N, D)")
    return array.astype(np.float32)


def _labels(name: str, values: Any) -> np.ndarray:
    array = _array(values)
    if array.ndim != 1 or array.dtype.kind not in "iuOSUT":
        raise UserError(f"{name} has shape {array.shape} and type {array.dtype}; it needs whole numbers or texts of shape (N,)")
    return array


def _array(values: Any) -> np.ndarray:
    import numpy as np

    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _refuse_mismatch(first: str, rows: np.ndarray, second: str, labels: np.ndarray) -> None:
    if len(rows) != len(labels):
        raise UserError(f"{first} has {len(rows)} rows, but {second} has {len(labels)}")


def load_results(*runs: str | Path) -> pd.DataFrame:
    """Read all result rows at or below some directories.

    Args:
        runs: Directories or `row.json` files; `runs` if none is given.

    Returns:
        One line per row, with the columns of docs/columns.md under nullable dtypes, and `path`, the run's directory. Fractions
        in [0, 1], times in seconds, memory in GiB. Runs without a row have the status `missing`.

    Raises:
        UserError: A directory does not exist, or a named file is not a row.
    """
    import pandas as pd

    from dmlbench.results.row_files import read_rows

    paths = [Path(one) for one in runs or ("runs",)]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; name a directory that contains runs")
    rows, _ = read_rows(*paths)
    records = [{**row.columns, PATH: None if row.folder is None else str(row.folder)} for row in rows]
    return pd.DataFrame.from_records(records).convert_dtypes()


def compare_table(frame: pd.DataFrame, vary: str = "loss", metrics: Sequence[str] = (), tested: bool = True) -> pd.DataFrame:
    """Make fair comparison tables: rows are compared only if everything except the axis and the seed is equal.

    Args:
        frame: What `load_results` returned, or some of its lines.
        vary: What may differ between the rows of a table; see `dmlbench table --help`.
        metrics: Metrics to compare; empty for Recall@k, R-precision and MAP@R.
        tested: Whether to test significance.

    Returns:
        One line per method: `table` (from 1), `method`, `n` (seeds), and for each metric `<metric>` (mean over seeds),
        `<metric>_half_width` (of the 95 % interval) and `<metric>_best` (whether a table prints it in bold); then `notes`.

    Raises:
        UserError: There is no row, or the axis or a metric is unknown.
    """
    import pandas as pd

    from dmlbench.tables.formats.cells import is_bold
    from dmlbench.tables.table import compare

    lines = []
    for number, table in enumerate(compare(_rows_of(frame), vary, metrics=metrics, tested=tested, published="none"), 1):
        for row in table.rows:
            line: dict[str, Any] = {"table": number, "method": row.label, "n": row.n}
            for metric in table.columns:
                cell = row.cells.get(metric)
                line |= {
                    metric: cell.mean if cell else None,
                    f"{metric}_half_width": cell.half_width if cell else None,
                    f"{metric}_best": is_bold(table, row, metric),
                }
            lines.append({**line, "notes": "; ".join(row.notes)})
    return pd.DataFrame.from_records(lines).convert_dtypes()


def _rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame; missing values are left out of the columns."""
    import pandas as pd

    from dmlbench.results.row import Row

    rows = []
    for record in frame.to_dict("records"):
        columns = {str(name): _scalar(value) for name, value in record.items() if name != PATH and not pd.isna(value)}
        path = record.get(PATH)
        rows.append(Row(columns, None if path is None or pd.isna(path) else Path(str(path))))
    return rows


def _scalar(value: Any) -> Any:
    """A value as plain Python."""
    return value.item() if hasattr(value, "item") else value
