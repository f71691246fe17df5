"""Count dead proxies. A proxy is dead if training did not move it; its class was not learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dmlbench.losses.objective import Objective

DEAD_BELOW = 1e-3  # radians; a proxy is dead if its direction changed by less since initialisation


def proxy_matrices(objective: Objective) -> list[torch.Tensor]:
    """Copy the two-dimensional parameters of an objective: proxies, centres or class weights.

    Args:
        objective: Objective of a method.

    Returns:
        Detached copies, each float `(C, D)` or `(D, C)`.
    """
    return [parameter.detach().clone() for parameter in objective.parameters() if parameter.ndim == 2]


def count_proxies(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], dim: int) -> tuple[int, int]:
    """Count proxies and dead proxies.

    Args:
        before: Matrices at initialisation, each float `(C, D)` or `(D, C)`, depending on the loss. A matrix of another shape
            contains no proxies.
        after: The same matrices after training.
        dim: Size D of the embedding.

    Returns:
        Number of proxies, and number of dead proxies.

    >>> before, after = torch.eye(2, 3), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    >>> count_proxies([before], [after], dim=3), count_proxies([before.T], [after.T], dim=3)
    ((2, 1), (2, 1))
    """
    n, dead = 0, 0
    for old, new in zip(before, after, strict=True):
        # A square matrix may store its proxies as rows or as columns; the orientation with more dead proxies counts.
        axes = [axis for axis in (1, 0) if old.shape[axis] == dim]
        if axes:
            n += old.shape[1 - axes[0]]
            dead += max(int((_angles(old, new, axis) < DEAD_BELOW).sum()) for axis in axes)
    return n, dead


def _angles(old: torch.Tensor, new: torch.Tensor, axis: int) -> torch.Tensor:
    """The angles between two sets of vectors, in radians. Accurate for small angles, whose cosine rounds to 1."""
    unit_old, unit_new = (torch.nn.functional.normalize(each.double(), dim=axis) for each in (old, new))
    return 2 * torch.asin(((unit_old - unit_new).norm(dim=axis) / 2).clamp(max=1))
