"""Diagnostics that describe the geometry of an embedding: distances within and between classes, and the effective rank."""

from __future__ import annotations

import torch
from torch import Tensor

from dmlbench.evaluation.embedding_rows import Rows, row_chunks

_MAX_SUM_COMPONENTS = 2**24  # components of sums per class that are kept at a time: 128 MiB of float64


def geometry(embeddings: Rows, labels: Tensor) -> dict[str, float | None]:
    """Compute all diagnostics as columns of a row; `results.metric_specs` defines them.

    Args:
        embeddings: float32 `(N, D)`, finite.
        labels: int64 `(N,)`.

    Returns:
        `effective_rank`, `intra_class_distance` (None if no class has two items) and `inter_class_distance` (None if there is
        only one class).
    """
    return {"effective_rank": effective_rank(embeddings), **class_distances(embeddings, labels)}


def effective_rank(embeddings: Rows) -> float:
    """Compute the effective rank, a number of directions in which embeddings spread.

    It is the exponential of the entropy of the singular values, divided by their sum, of the centred embeddings.

    Args:
        embeddings: float32 `(N, D)`, not necessarily centred.

    Returns:
        From 1 to D; 0 if all embeddings are equal.

    Source: Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
    2.0
    """
    n, dim = embeddings.shape
    mean = torch.zeros(dim, dtype=torch.float64, device=embeddings.device)
    for _, chunk in row_chunks(embeddings):
        mean += chunk.sum(0, dtype=torch.float64) / n
    scatter = torch.zeros(dim, dim, dtype=torch.float64, device=embeddings.device)
    for _, chunk in row_chunks(embeddings):
        centred = chunk.double() - mean
        scatter += centred.T @ centred
    squares = torch.linalg.eigvalsh(scatter).clamp(min=0)
    # Rounding gives the scatter matrix of an embedding with rank below D small eigenvalues, which are not directions.
    scale = n * float(mean.square().sum()) + float(scatter.trace())
    squares = squares[squares > scale * dim * torch.finfo(torch.float64).eps]
    if not len(squares):
        return 0.0
    shares = squares.sqrt() / squares.sqrt().sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def class_distances(embeddings: Rows, labels: Tensor) -> dict[str, float | None]:
    """Compute the mean of 1 - cosine similarity over all pairs of the same class, and over all pairs of different classes.

    Both follow from sums over classes, without a loop over pairs.

    Args:
        embeddings: float32 `(N, D)`. A row of zeros has cosine similarity 0 with every other row.
        labels: int64 `(N,)`.

    Returns:
        `intra_class_distance` and `inter_class_distance`, in [0, 2]; None if there is no such pair.
    """
    _, index, counts = labels.to(embeddings.device).unique(return_inverse=True, return_counts=True)
    dim = embeddings.shape[1]
    total = torch.zeros(dim, dtype=torch.float64, device=embeddings.device)
    within = own = 0.0  # sums of the cosines of all pairs of the same class, and of each item with itself
    at_once = max(1, _MAX_SUM_COMPONENTS // max(1, dim))
    for first in range(0, len(counts), at_once):
        sums = torch.zeros(min(at_once, len(counts) - first), dim, dtype=torch.float64, device=embeddings.device)
        for begin, chunk in row_chunks(embeddings):
            row = index[begin : begin + len(chunk)] - first
            here = (row >= 0) & (row < len(sums))
            unit = torch.nn.functional.normalize(chunk[here].double(), eps=torch.finfo(torch.float64).tiny)
            sums.index_add_(0, row[here], unit)
            own += float(unit.square().sum())
        within += float(sums.square().sum())
        total += sums.sum(0)
    n_within = int((counts * (counts - 1)).sum())
    n_between = len(labels) * (len(labels) - 1) - n_within
    return {
        "intra_class_distance": 1 - (within - own) / n_within if n_within else None,
        "inter_class_distance": 1 - (float(total.square().sum()) - within) / n_between if n_between else None,
    }
