"""How far training turned the proxies of a loss. A proxy that was not moved is dead; its class was not learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

DEAD_BELOW = 1e-3  # radians; a proxy is dead if its direction changed by less since initialisation
FIRST_STEPS = 20  # steps after which the angle is measured by which proxies turned
_AT_ONCE = 4096  # proxies; bounds the temporary memory


def count_proxies(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Count proxies and dead proxies.

    Args:
        before: Matrices of proxies at initialisation, each float `(C, D)`.
        after: The same matrices after training.

    Returns:
        Number of proxies, and number of dead proxies.

    >>> count_proxies([torch.eye(2, 3)], [torch.tensor([[1.0, 0, 0], [0, 1, 1]])])
    (2, 1)
    """
    angles = _angles(before, after)
    return len(angles), int((angles < DEAD_BELOW).sum())


def mean_turn(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float | None:
    """Return the mean angle by which proxies turned, in degrees.

    Args:
        before: Matrices of proxies, each float `(C, D)`.
        after: The same matrices later.

    Returns:
        The angle; None without proxies.

    >>> round(mean_turn([torch.eye(2, 3)], [torch.tensor([[1.0, 0, 0], [0, 1, 1]])]), 3)
    22.5
    """
    angles = _angles(before, after)
    return math.degrees(angles.mean().item()) if len(angles) else None


def _angles(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> torch.Tensor:
    """The angle of each proxy, in radians, float64. Accurate for small angles, whose cosine rounds to 1."""
    found = [torch.zeros(0, dtype=torch.float64)]
    for old, new in zip(before, after, strict=True):
        for part in zip(old.split(_AT_ONCE), new.split(_AT_ONCE), strict=True):
            unit_old, unit_new = (torch.nn.functional.normalize(each.double(), dim=1) for each in part)
            found.append(2 * torch.asin(((unit_old - unit_new).norm(dim=1) / 2).clamp(max=1)).cpu())
    return torch.cat(found)
