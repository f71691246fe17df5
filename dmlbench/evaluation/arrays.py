"""Embeddings from torch tensors, NumPy arrays and lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dmlbench.errors import UserError
from dmlbench.evaluation.embeddings import Embeddings
from dmlbench.evaluation.single_precision import refuse_differences_that_vanish, to_single_precision

Matrix = np.ndarray | torch.Tensor | Sequence[Sequence[float]]
Labels = np.ndarray | torch.Tensor | Sequence[int] | Sequence[str]


def embeddings_from_arrays(
    embeddings: Matrix, labels: Labels, gallery: Matrix | None = None, gallery_labels: Labels | None = None
) -> Embeddings:
    """Make embeddings of queries and gallery, with consecutive ids.

    Args:
        embeddings: Numbers `(N, D)`, one row per query.
        labels: Integers or texts `(N,)`.
        gallery: Numbers `(G, D)`. None if every query is also in the gallery.
        gallery_labels: Integers or texts `(G,)`; needed with `gallery`.

    Raises:
        UserError: Shapes or types do not fit, or an embedding is not finite.
    """
    if (gallery is None) != (gallery_labels is None):
        raise UserError("gallery and gallery_labels have to be given together")
    rows, classes = _checked_side("embeddings", embeddings, "labels", labels)
    is_query = is_gallery = np.ones(len(rows), dtype=bool)
    if gallery is not None:
        more, more_classes = _checked_side("gallery", gallery, "gallery_labels", gallery_labels)
        if rows.shape[1] != more.shape[1]:
            raise UserError(f"embeddings have {rows.shape[1]} dimensions, but gallery has {more.shape[1]}")
        if (classes.dtype.kind == "i") != (more_classes.dtype.kind == "i"):
            raise UserError(f"labels has type {classes.dtype}, but gallery_labels has type {more_classes.dtype}")
        is_query = np.arange(len(rows) + len(more)) < len(rows)
        is_gallery = ~is_query
        rows, classes = np.concatenate([rows, more]), np.concatenate([classes, more_classes])
    if classes.dtype.kind != "i":
        classes = np.unique(classes, return_inverse=True)[1].astype(np.int64)
    return Embeddings(
        rows=torch.from_numpy(np.ascontiguousarray(rows)),
        labels=torch.from_numpy(np.ascontiguousarray(classes)),
        ids=torch.arange(len(rows)),
        is_query=torch.from_numpy(is_query),
        is_gallery=torch.from_numpy(is_gallery),
    )


def _checked_side(name: str, embeddings: Any, labels_name: str, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings, float32 `(N, D)`, and labels, int64 or texts `(N,)`."""
    rows, classes = _rows(name, embeddings), _labels(labels_name, labels)
    if len(rows) != len(classes):
        raise UserError(f"{name} has {len(rows)} rows, but {labels_name} has {len(classes)} values; use one label per row")
    return rows, classes


def _rows(name: str, values: Any) -> np.ndarray:
    array = _array(name, values)
    if array.ndim != 2 or array.dtype.kind not in "fiub" or not array.size:
        raise UserError(f"{name} has shape {array.shape} and type {array.dtype}; it needs numbers of shape (N, D)")
    rows = to_single_precision(name, array)
    refuse_differences_that_vanish(name, array, rows)
    not_finite = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(not_finite):
        raise UserError(f"{name}: {len(not_finite)} of {len(rows)} rows are NaN or infinite (first: {not_finite[0]})")
    return rows


def _labels(name: str, values: Any) -> np.ndarray:
    array = _array(name, values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    if array.ndim != 1 or array.dtype.kind not in "iuUT":
        raise UserError(f"{name} has shape {array.shape} and type {array.dtype}; it needs integers or texts of shape (N,)")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise UserError(f"{name} contains {array.max()}, which exceeds int64")
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _array(name: str, values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # NumPy has no bfloat16
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{name} cannot be converted to an array: {str(error).splitlines()[0]}") from None
