"""What a method's own vectors did in training: one that never moved is dead, and its class was never learnt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dmlbench.losses.objective import Objective

UNMOVED = 1e-3  # radians: a proxy that turned by less since it was drawn


def proxy_matrices(objective: Objective) -> list[torch.Tensor]:
    """Copies of an objective's own parameters of two dimensions: proxies, centres, weights of classes."""
    return [parameter.detach().clone() for parameter in objective.parameters() if parameter.ndim == 2]


def count_proxies(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], dim: int) -> tuple[int, int]:
    """Count proxies, and those that kept the direction in which they were drawn.

    Args:
        before: float `(C, D)` or `(D, C)`, as losses differ in which they store; a matrix of another shape has no proxies.
        after: the same, trained.
        dim: D, of the embedding.

    >>> before, after = torch.eye(2, 3), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    >>> count_proxies([before], [after], dim=3), count_proxies([before.T], [after.T], dim=3)
    ((2, 1), (2, 1))
    """
    n, dead = 0, 0
    for old, new in zip(before, after, strict=True):
        # where C is D, nothing tells which way they lie: what did not move in either is counted
        sides = [axis for axis in (1, 0) if old.shape[axis] == dim]
        if sides:
            n += old.shape[1 - sides[0]]
            dead += max(int((_turned(old, new, axis) < UNMOVED).sum()) for axis in sides)
    return n, dead


def _turned(old: torch.Tensor, new: torch.Tensor, axis: int) -> torch.Tensor:
    """Angles between vectors, in radians; exact for small ones too, where a cosine would be 1."""
    one, other = (torch.nn.functional.normalize(each.double(), dim=axis) for each in (old, new))
    return 2 * torch.asin(((one - other).norm(dim=axis) / 2).clamp(max=1))
