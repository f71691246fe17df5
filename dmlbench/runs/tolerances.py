"""How much metrics may differ that were computed again from embeddings of the same run. Imports neither torch nor Hydra."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dmlbench.config.schema import Scalar
from dmlbench.results.metric_specs import parse_metric
from dmlbench.results.row import Row
from dmlbench.verification import Finding


class Tolerance(NamedTuple):
    """Largest differences of metrics that are means over many ranks (MAP@R, R-precision), and of other retrieval metrics.

    If embeddings are not bit-equal, the order of the items of one query may change, whatever the number of queries. If they
    have fewer digits, clustering metrics and diagnostics are not compared.
    """

    mean: float
    single: float
    is_exact: bool = False
    has_all_digits: bool = True


# By the type of the embeddings, of unit length. Measured on 11 trained runs of Omniglot, Grocery and synthetic images: 16 bits
# move MAP@R and R-precision by at most 9e-5 and other metrics by at most 4e-3; 8 bits by at most 1.1e-3 and 1.4e-2. Of an
# untrained trunk (mean cosine 0.99), 8 bits move them by up to 3e-3 and 2e-2, so such files may not pass.
TOLERANCES = {
    "F32": Tolerance(1e-6, 1e-6, is_exact=True),
    "F16": Tolerance(5e-4, 5e-3, has_all_digits=False),
    "I8": Tolerance(2.5e-3, 2e-2, has_all_digits=False),
}
AGAIN = Tolerance(5e-4, 5e-3)  # for images that were embedded again, because kernels round differently on other machines
_CLUSTERING, _DIAGNOSTIC = 0.02, 1e-3  # k-means depends on rounding; diagnostics are compared relative to their size
_OVER_RANKS = ("map_at_r", "r_precision")
_COUNTS = ("n_queries", "n_excluded", "n_gallery", "full_n_gallery", "n_clusters")


def differences(row: Row, columns: Mapping[str, Scalar], tolerance: Tolerance) -> Iterator[Finding]:
    """Yield metrics and counts of a row that differ from what its embeddings give.

    Args:
        row: Row.
        columns: Columns of the evaluation of its embeddings.
        tolerance: Largest differences.
    """
    for name in (*_COUNTS, *(("n_tied_queries",) if tolerance.is_exact else ())):
        if name in columns and name in row.columns and columns[name] != row[name]:
            yield Finding(name, f"{name} is {row[name]}, but the embeddings give {columns[name]}")
    for name in row.columns:
        metric, value, found = parse_metric(name), row.number(name), columns.get(name)
        if metric is None or metric.spec.kind == "attributes" or value is None:
            continue
        if not isinstance(found, int | float):
            if metric.spec.kind == "retrieval":
                yield Finding("metrics", f"{name} does not follow from the embeddings")
            continue
        if metric.spec.kind == "retrieval":
            allowed = tolerance.mean if metric.spec.name in _OVER_RANKS else tolerance.single
            allowed += 0 if tolerance.is_exact else 1 / max(row.number("n_queries") or 1, 1)
        elif not tolerance.has_all_digits:
            continue
        else:
            allowed = _CLUSTERING if metric.spec.kind == "clustering" else _DIAGNOSTIC * max(1.0, abs(value))
        if not math.isclose(value, found, rel_tol=0, abs_tol=allowed):
            yield Finding("metrics", f"{name} is {value:.6f}, but the embeddings give {found:.6f} (tolerance {allowed:g})")
