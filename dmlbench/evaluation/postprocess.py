"""Transformations of embeddings before the search. The row of a run records those that were applied."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluation.embedding_rows import Rows

_MAX_ROWS = 2**13  # rows that are normalised at a time


def whiten(embeddings: Tensor, training: Tensor, dim: int) -> Tensor:
    """Apply PCA whitening that is fitted on training embeddings, and normalise the result to unit length.

    The training mean is subtracted, and the components along the principal directions are divided by their standard
    deviations.

    Args:
        embeddings: float32 `(N, D)`.
        training: float32 `(M, D)`.
        dim: Number of principal directions to keep, at most D and less than M.

    Returns:
        float32 `(N, dim)`.

    Raises:
        UserError: There are too few training embeddings, or they spread in too few directions.

    Source: Jégou & Chum, "Negative evidences and co-occurences in image retrieval", ECCV 2012.
    """
    n, width = training.shape
    if not 1 <= dim <= min(width, n - 1):
        raise UserError(
            f"whiten={dim} is not possible with {n:,} training embeddings of {width} dimensions; "
            f"use from 1 to {max(0, min(width, n - 1))}"
        )
    mean = training.double().mean(0)
    centred = training.double() - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / (n - 1))
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    if variances[-1] <= variances[0] * 1e-12:
        n_directions = int((variances > variances[0] * 1e-12).sum())
        raise UserError(f"whiten={dim} is not possible: the training embeddings spread in {n_directions} directions only")
    # The sign of an eigenvector depends on the library, so the largest component of each is made positive.
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    projected = (embeddings.double() - mean) @ (directions * signs / variances.sqrt())
    return torch.nn.functional.normalize(projected).float()


def beta_normalize(embeddings: Tensor, beta: float) -> Tensor:
    """Apply beta-normalisation: `x / |x| + beta x`. A zero vector stays zero.

    Args:
        embeddings: float32 `(N, D)`.
        beta: Weight of the embedding that is not normalised.

    Returns:
        float32 `(N, D)`.

    Source: Elezi et al., "The group loss++", PAMI 2022.
    """
    wide = embeddings.double()
    return (torch.nn.functional.normalize(wide, eps=torch.finfo(torch.float64).tiny) + beta * wide).float()


def unit_vectors(embeddings: Rows) -> Rows:
    """Normalise rows to unit length, so that inner products are cosine similarities. A zero vector stays zero.

    Args:
        embeddings: float32 `(N, D)`.

    Returns:
        float32 `(N, D)`. Rows of a file are normalised whenever they are read.
    """
    return _unit(embeddings) if isinstance(embeddings, Tensor) else _UnitRows(embeddings)


@dataclass(frozen=True, eq=False)
class _UnitRows:
    """Rows of a file, normalised to unit length whenever they are read."""

    rows: Rows

    @property
    def shape(self) -> torch.Size:
        return self.rows.shape

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        return _unit(self.rows[rows])


def _unit(embeddings: Tensor) -> Tensor:
    found = torch.empty_like(embeddings)
    for part, out in zip(embeddings.split(_MAX_ROWS), found.split(_MAX_ROWS), strict=True):
        out.copy_(torch.nn.functional.normalize(part.double(), eps=torch.finfo(torch.float64).tiny))
    return found


def euclidean_vectors(queries: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Make vectors whose inner products order the gallery as Euclidean distances do: `(q, 1)` and `(g, -|g|^2 / 2)`.

    Args:
        queries: float32 `(Q, D)`.
        gallery: float32 `(G, D)`.

    Returns:
        float32 `(Q, D + 2)` and `(G, D + 2)`. The squared norm takes two columns, because one float32 is not precise enough.
    """
    # Lengths are scaled to about 1, so that squares stay in the range of float32. The common power of two changes no order.
    largest = max(float(part.double().norm(dim=1).max()) if len(part) else 0.0 for part in (queries, gallery))
    exponent = torch.tensor(math.frexp(largest)[1] if largest else 0, dtype=torch.float64, device=queries.device)
    queries, gallery = (torch.ldexp(part.double(), -exponent).float() for part in (queries, gallery))
    squares = gallery.double().square().sum(1) / 2
    high = squares.float()
    low = (squares - high.double()).float()
    ones = queries.new_ones(len(queries), 2)
    return torch.cat([queries, ones], 1), torch.cat([gallery, -high[:, None], -low[:, None]], 1)
