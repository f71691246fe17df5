"""What may be done to embeddings before the search; each is recorded in the row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.errors import UserError
from dmlbench.evaluation.gallery import Rows

_ROWS_AT_ONCE = 2**13


def whiten(embeddings: Tensor, training: Tensor, dim: int) -> Tensor:
    """PCA whitening, fitted on training embeddings alone, then unit length.

    Args:
        embeddings: float32 `(N, D)`.
        training: float32 `(M, D)`.
        dim: principal directions to keep, at most D and fewer than M.

    Returns:
        float32 `(N, dim)`: less the training mean, along the principal directions, each divided by its standard deviation.

    Raises:
        UserError: there are too few training rows or directions.

    Source: Jégou & Chum, "Negative evidences and co-occurences in image retrieval", ECCV 2012.
    """
    n, width = training.shape
    if not 1 <= dim <= min(width, n - 1):
        raise UserError(
            f"whiten={dim}: {n:,} training embeddings of {width} dimensions allow from 1 to {max(0, min(width, n - 1))}"
        )
    mean = training.double().mean(0)
    centred = training.double() - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / (n - 1))
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    if variances[-1] <= variances[0] * 1e-12:
        spread = int((variances > variances[0] * 1e-12).sum())
        raise UserError(f"whiten={dim}: the training embeddings spread in {spread} directions only")
    # An eigenvector's sign is the library's choice; the largest component of each is made positive.
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    along = (embeddings.double() - mean) @ (directions * signs / variances.sqrt())
    return torch.nn.functional.normalize(along).float()


def beta_normalize(embeddings: Tensor, beta: float) -> Tensor:
    """The unit vector plus `beta` times the embedding as it came: `x / |x| + beta x`, float32 `(N, D)`; a zero stays zero.

    Source: Elezi et al., "The group loss++", PAMI 2022, as the best-practice slides give it.
    """
    wide = embeddings.double()
    return (torch.nn.functional.normalize(wide, eps=torch.finfo(torch.float64).tiny) + beta * wide).float()


def unit_vectors(embeddings: Rows) -> Rows:
    """Rows of unit length, float32 `(N, D)`: their inner products are cosines; a zero stays zero; of a file, as it is read."""
    return _unit(embeddings) if isinstance(embeddings, Tensor) else _UnitRows(embeddings)


@dataclass(frozen=True, eq=False)
class _UnitRows:
    """Rows of a file, brought to unit length as they are read."""

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
    for part, out in zip(embeddings.split(_ROWS_AT_ONCE), found.split(_ROWS_AT_ONCE), strict=True):
        out.copy_(torch.nn.functional.normalize(part.double(), eps=torch.finfo(torch.float64).tiny))
    return found


def euclidean_vectors(queries: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors whose inner products order the gallery as Euclidean distances do: `(q, 1)` and `(g, -|g|^2 / 2)`.

    Args:
        queries: float32 `(Q, D)`.
        gallery: float32 `(G, D)`.

    Returns:
        float32 `(Q, D + 2)` and `(G, D + 2)`; the square takes two columns, so that float32 does not cut it short.
    """
    # Lengths are brought near to 1, or their squares would leave float32; one power of two for all changes no order.
    greatest = max(float(part.double().norm(dim=1).max()) if len(part) else 0.0 for part in (queries, gallery))
    exponent = torch.tensor(math.frexp(greatest)[1] if greatest else 0, dtype=torch.float64)
    queries, gallery = (torch.ldexp(part.double(), -exponent).float() for part in (queries, gallery))
    squares = gallery.double().square().sum(1) / 2
    high = squares.float()
    low = (squares - high.double()).float()
    ones = torch.ones(len(queries), 2, dtype=torch.float32)
    return torch.cat([queries, ones], 1), torch.cat([gallery, -high[:, None], -low[:, None]], 1)
