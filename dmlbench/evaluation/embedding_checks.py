"""Check that embeddings, labels, ids and roles from a file fit together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluation.embeddings import Embeddings, FileRows
from dmlbench.evaluation.single_precision import refuse_differences_that_vanish, to_single_precision


def validated_embeddings(file: Path, found: Mapping[str, Any]) -> Embeddings:
    """Make embeddings from the contents of a file.

    Args:
        file: File that was read, for error messages.
        found: Key to NumPy array; `embeddings` may also be `FileRows`. `embeddings` and `labels` are required. Without `ids`,
            items are numbered. Without roles, every item is both query and gallery; with `is_query` only, the other items
            are the gallery.

    Raises:
        UserError: A shape, dtype or number does not fit, an id is not unique, or there is no query or no gallery.
    """
    rows = found["embeddings"]
    if not isinstance(rows, FileRows):
        if rows.ndim != 2 or rows.dtype.kind not in "fiu":
            raise UserError(
                f"{file}: embeddings have the dtype {rows.dtype} and the shape {tuple(rows.shape)}; "
                "they must be numbers of the shape (N, D)"
            )
        single = to_single_precision(str(file), rows)
        refuse_differences_that_vanish(str(file), rows, single)
        rows = torch.from_numpy(single)
    n = len(rows)
    if not n or not rows.shape[1]:
        raise UserError(f"{file}: embeddings have the shape {tuple(rows.shape)}, so there is nothing to compare")
    labels = _integers(file, "labels", found["labels"], n)
    ids = _integers(file, "ids", found["ids"], n) if "ids" in found else torch.arange(n)
    distinct, counts = ids.unique(return_counts=True)
    if len(distinct) < n:
        raise UserError(f"{file}: ids must be unique, but {int(distinct[counts > 1][0])} occurs more than once")
    is_query, is_gallery = _roles(file, found, n)
    return Embeddings(rows, labels, ids, is_query, is_gallery)


def _roles(file: Path, found: Mapping[str, Any], n: int) -> tuple[Tensor, Tensor]:
    """Return `is_query` and `is_gallery`, bool `(N,)` each."""
    roles = {name: _booleans(file, name, found[name], n) for name in ("is_query", "is_gallery") if name in found}
    every_item = torch.ones(n, dtype=torch.bool)
    if "is_query" not in roles and "is_gallery" in roles:
        raise UserError(f"{file} has is_gallery but no is_query; it needs both, or is_query only")
    is_query = roles.get("is_query", every_item)
    is_gallery = roles.get("is_gallery", every_item if "is_query" not in roles else ~is_query)
    for name, role in (("is_query", is_query), ("is_gallery", is_gallery)):
        if not role.any():
            default = "; without is_gallery, the gallery consists of all items that are not queries"
            raise UserError(f"{file}: {name} is true for no item{default if 'is_gallery' not in roles else ''}")
    return is_query, is_gallery


def _integers(file: Path, name: str, values: np.ndarray, n: int) -> Tensor:
    _check_length(file, name, values, n)
    if values.dtype.kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
        raise UserError(f"{file}: {name} contain {values.max()}, which exceeds int64")
    if values.dtype.kind not in "iu":
        if name == "labels" and values.dtype.kind in "OU":  # names of classes, from a CSV or .npz file
            return torch.from_numpy(np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64))
        raise UserError(f"{file}: {name} have the dtype {values.dtype}; they must be integers")
    return torch.from_numpy(values.astype(np.int64))


def _booleans(file: Path, name: str, values: np.ndarray, n: int) -> Tensor:
    _check_length(file, name, values, n)
    if values.dtype.kind not in "biu" or not np.isin(values, (0, 1)).all():
        raise UserError(f"{file}: {name} must be true or false (1 or 0) for each item")
    return torch.from_numpy(values.astype(bool))


def _check_length(file: Path, name: str, values: np.ndarray, n: int) -> None:
    if values.shape != (n,):
        raise UserError(
            f"{file}: {name} have the shape {tuple(values.shape)}, but there are {n} embeddings; use one value each"
        )
