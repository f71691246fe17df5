"""Conversion of embeddings to float32, in which they are compared. Values that float32 cannot represent are refused as such."""

from __future__ import annotations

import numpy as np

from dmlbench.errors import UserError

_ADVICE = "embeddings are compared in single precision (float32)"


def to_single_precision(name: str, rows: np.ndarray) -> np.ndarray:
    """Convert rows to float32.

    Args:
        name: File or argument, for error messages.
        rows: Numbers `(N, D)`.

    Returns:
        float32 `(N, D)`, contiguous. NaN and infinity are kept.

    Raises:
        UserError: A finite number exceeds the range of float32, or a row that is not zero becomes zero.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.ascontiguousarray(rows, dtype=np.float32)
    if rows.dtype.itemsize <= single.dtype.itemsize:
        return single
    infinite = np.flatnonzero(np.isinf(single).any(axis=1))
    lost = infinite[(np.isinf(single[infinite]) & np.isfinite(rows[infinite])).any(axis=1)]
    if len(lost):
        raise UserError(f"{name}: {_rows(lost, single)} contain numbers above 3.4e38, but {_ADVICE}; rescale the rows")
    zero = np.flatnonzero(~single.any(axis=1))
    lost = zero[rows[zero].any(axis=1)]
    if len(lost):
        raise UserError(f"{name}: {_rows(lost, single)} contain only numbers below 1.4e-45, but {_ADVICE}; rescale the rows")
    return single


def refuse_differences_that_vanish(name: str, rows: np.ndarray, single: np.ndarray) -> None:
    """Refuse rows that differ, but are all equal in float32.

    Args:
        name: File or argument, for error messages.
        rows: Numbers `(N, D)`.
        single: The same in float32.

    Raises:
        UserError: All rows are equal in float32 only.
    """
    if len(rows) > 1 and (single == single[0]).all() and not (rows == rows[0]).all():
        raise UserError(
            f"{name}: all rows are equal when they are rounded to 7 digits, but {_ADVICE}; subtract what they have in common"
        )


def _rows(lost: np.ndarray, rows: np.ndarray) -> str:
    return f"{len(lost):,} of {len(rows):,} rows (first: {lost[0]})"
