"""Floor 4: how embeddings lie, whatever is asked of them: spread within and between classes, and in how many directions."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS_AT_ONCE = 2**14


def diagnose(embeddings: Tensor, labels: Tensor) -> dict[str, float | None]:
    """All diagnostics of some embeddings as columns of a row.

    Args:
        embeddings: float32 `(N, D)`, finite.
        labels: int64 `(N,)`.

    Returns:
        `effective_rank`, `intra_class_distance` (None where no class has two items), `inter_class_distance` (None where there
        is one class); see `measures`.
    """
    return {"effective_rank": effective_rank(embeddings), **class_distances(embeddings, labels)}


def effective_rank(embeddings: Tensor) -> float:
    """In how many directions embeddings spread: the exponential of the entropy of their singular values' shares.

    Args:
        embeddings: float32 `(N, D)`; they are centred here.

    Returns:
        From 1 to D; 0 where all are one point.

    Source: Roy & Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.

    >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
    2.0
    """
    mean = embeddings.double().mean(0)
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=embeddings.device)
    for part in embeddings.split(_ROWS_AT_ONCE):
        centred = part.double() - mean
        scatter += centred.T @ centred
    squares = torch.linalg.eigvalsh(scatter).clamp(min=0)
    # The eigenvalues of a scatter of rank r below D are off by rounding; what that leaves is no direction.
    scale = len(embeddings) * float(mean.square().sum()) + float(scatter.trace())
    squares = squares[squares > scale * len(mean) * torch.finfo(torch.float64).eps]
    if not len(squares):
        return 0.0
    shares = squares.sqrt() / squares.sqrt().sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def class_distances(embeddings: Tensor, labels: Tensor) -> dict[str, float | None]:
    """Mean of 1 - cosine over all pairs of one class, and over all pairs of two classes, from sums and not pair by pair.

    Args:
        embeddings: float32 `(N, D)`; a row of zeros has the cosine 0 with every other.
        labels: int64 `(N,)`.

    Returns:
        `intra_class_distance` and `inter_class_distance`, in [0, 2]; None where there is no such pair.
    """
    _, place, counts = labels.to(embeddings.device).unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), embeddings.shape[1], dtype=torch.float64, device=embeddings.device)
    own = 0.0  # the cosines of items with themselves
    for part, of in zip(embeddings.split(_ROWS_AT_ONCE), place.split(_ROWS_AT_ONCE), strict=True):
        unit = torch.nn.functional.normalize(part.double(), eps=torch.finfo(torch.float64).tiny)
        sums.index_add_(0, of, unit)
        own += float(unit.square().sum())
    within, total = float(sums.square().sum()), float(sums.sum(0).square().sum())
    n_within = int((counts * (counts - 1)).sum())
    n_between = len(labels) * (len(labels) - 1) - n_within
    return {
        "intra_class_distance": 1 - (within - own) / n_within if n_within else None,
        "inter_class_distance": 1 - (total - within) / n_between if n_between else None,
    }
