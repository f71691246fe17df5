"""Generated embeddings with the size and the classes of the benchmark data sets.

Superclasses, classes and noise are chosen such that R@1 is about 0.7 to 0.8, as for trained embeddings.
"""

from __future__ import annotations

import torch

SETS = {"cub": (5_924, 100), "cars": (8_131, 98), "sop": (60_502, 11_316)}  # test images and test classes
KS = {"cub": (1, 2, 4, 8), "cars": (1, 2, 4, 8), "sop": (1, 10, 100, 1000)}
NOISE = {("cub", 512): 4.2, ("cars", 512): 4.2, ("sop", 128): 1.95, ("sop", 512): 3.1}


def labels_of(name: str) -> torch.Tensor:
    """Return labels with class sizes like those of a data set: equal for CUB and Cars, 2 to 12 for SOP.

    Args:
        name: One of `SETS`.

    Returns:
        int64 `(N,)`.
    """
    n, n_classes = SETS[name]
    if name != "sop":
        return torch.arange(n) % n_classes
    generator = torch.Generator().manual_seed(0)
    sizes = (2 + torch.poisson(torch.full((n_classes,), 3.35), generator=generator)).clamp(max=12).long()
    while sizes.sum() != n:
        step = 1 if sizes.sum() < n else -1
        allowed = ((sizes + step >= 2) & (sizes + step <= 12)).nonzero().squeeze(1)
        chosen = allowed[torch.randperm(len(allowed), generator=generator)[: abs(int(n - sizes.sum()))]]
        sizes[chosen] += step
    return torch.repeat_interleave(sizes)


def embeddings_of(name: str, dim: int, labels: torch.Tensor, noise: float | None = None) -> torch.Tensor:
    """Return embeddings of unit length.

    Args:
        name: One of `SETS`.
        dim: Size D.
        labels: int64 `(N,)`.
        noise: Standard deviation of the noise. None for the value in `NOISE`.

    Returns:
        float32 `(N, D)`.
    """
    generator = torch.Generator().manual_seed(1)
    n_classes = SETS[name][1]
    families = torch.randn(n_classes // 10 + 1, dim, generator=generator)
    centres = families[torch.arange(n_classes) % len(families)] + torch.randn(n_classes, dim, generator=generator)
    deviations = torch.randn(len(labels), dim, generator=generator)
    scale = NOISE[name, dim] if noise is None else noise
    return torch.nn.functional.normalize(centres[labels] + scale * deviations, dim=1)
