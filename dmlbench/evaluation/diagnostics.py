"""How embeddings lie, whatever is asked of them: spread within and between classes, and in how many directions."""

from __future__ import annotations

import torch
from torch import Tensor

from dmlbench.evaluation.gallery import Rows, parts

_SUMS_AT_ONCE = 2**24  # components, 128 MiB of float64


def geometry(embeddings: Rows, labels: Tensor) -> dict[str, float | None]:
    """All diagnostics of some embeddings as columns of a row.

    Args:
        embeddings: float32 `(N, D)`, finite.
        labels: int64 `(N,)`.

    Returns:
        `effective_rank`, `intra_class_distance` (None where no class has two items), `inter_class_distance` (None where there
        is one class); see `measures`.
    """
    return {"effective_rank": effective_rank(embeddings), **class_distances(embeddings, labels)}


def effective_rank(embeddings: Rows) -> float:
    """In how many directions embeddings spread: the exponential of the entropy of their singular values' shares.

    Args:
        embeddings: float32 `(N, D)`; they are centred here.

    Returns:
        From 1 to D; 0 where all are one point.

    Source: Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
    2.0
    """
    n, dim = embeddings.shape
    mean = torch.zeros(dim, dtype=torch.float64, device=embeddings.device)
    for _, part in parts(embeddings):
        mean += part.sum(0, dtype=torch.float64) / n
    scatter = torch.zeros(dim, dim, dtype=torch.float64, device=embeddings.device)
    for _, part in parts(embeddings):
        centred = part.double() - mean
        scatter += centred.T @ centred
    squares = torch.linalg.eigvalsh(scatter).clamp(min=0)
    # The eigenvalues of a scatter of rank r below D are off by rounding; what that leaves is no direction.
    scale = n * float(mean.square().sum()) + float(scatter.trace())
    squares = squares[squares > scale * dim * torch.finfo(torch.float64).eps]
    if not len(squares):
        return 0.0
    shares = squares.sqrt() / squares.sqrt().sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def class_distances(embeddings: Rows, labels: Tensor) -> dict[str, float | None]:
    """Mean of 1 - cosine over all pairs of one class, and over all pairs of two classes, from sums and not pair by pair.

    Args:
        embeddings: float32 `(N, D)`; a row of zeros has the cosine 0 with every other.
        labels: int64 `(N,)`.

    Returns:
        `intra_class_distance` and `inter_class_distance`, in [0, 2]; None where there is no such pair.
    """
    _, place, counts = labels.to(embeddings.device).unique(return_inverse=True, return_counts=True)
    dim = embeddings.shape[1]
    total = torch.zeros(dim, dtype=torch.float64, device=embeddings.device)
    within = own = 0.0  # the sum of all cosines within classes; of items with themselves
    at_once = max(1, _SUMS_AT_ONCE // max(1, dim))
    for first in range(0, len(counts), at_once):
        sums = torch.zeros(min(at_once, len(counts) - first), dim, dtype=torch.float64, device=embeddings.device)
        for begin, part in parts(embeddings):
            of = place[begin : begin + len(part)] - first
            here = (of >= 0) & (of < len(sums))
            unit = torch.nn.functional.normalize(part[here].double(), eps=torch.finfo(torch.float64).tiny)
            sums.index_add_(0, of[here], unit)
            own += float(unit.square().sum())
        within += float(sums.square().sum())
        total += sums.sum(0)
    n_within = int((counts * (counts - 1)).sum())
    n_between = len(labels) * (len(labels) - 1) - n_within
    return {
        "intra_class_distance": 1 - (within - own) / n_within if n_within else None,
        "inter_class_distance": 1 - (float(total.square().sum()) - within) / n_between if n_between else None,
    }
