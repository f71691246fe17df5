"""Embed images with a model, and refuse broken embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from dmlbench.data.loader import AnyBatches, to_device
from dmlbench.errors import MethodFailure
from dmlbench.models.embedder import Embedder
from dmlbench.training import processes

# Embeddings with a smaller mean pairwise distance (1 - cosine) are a single point, up to the rounding of float32.
COLLAPSED_BELOW = 1e-6


@torch.no_grad()
def embed(model: Embedder, batches: AnyBatches, ids: Sequence[int], device: str, unit: bool = True) -> torch.Tensor:
    """Embed centre-cropped images in evaluation mode, in float32: bfloat16 would change ranks.

    Args:
        model: Model, on `device`.
        batches: Loads the images, or their features within `model.over_features()`.
        ids: Ids of the N images.
        device: `cpu` or `cuda`.
        unit: Whether to normalise the embeddings to unit length.

    Returns:
        float32 `(N, D)`, on the CPU, in the order of `ids`. Each of several processes embeds a part of the images, and all
        return all embeddings.
    """
    model.eval()
    parts = []
    # Batches are whole in every process, because the rounding of an embedding may depend on the size of its batch.
    shares = _shares(len(ids), batches.batch_size)
    own = [ids[index] for index in shares[processes.rank()]]
    with tqdm(total=len(own), disable=None, unit="image", desc="embed", leave=False) as bar:
        for images, _ in batches.test(own):
            moved = to_device(images, device)
            parts.append((model(moved) if unit else model.features(moved)).float().cpu())
            bar.update(len(images))
    gathered = processes.gather_rows(torch.cat(parts) if parts else None, [len(share) for share in shares])
    return gathered[torch.argsort(torch.from_numpy(np.concatenate(shares)))] if len(shares) > 1 else gathered


def _shares(n: int, batch_size: int) -> list[np.ndarray]:
    """The indices of the images that each process embeds: every n-th batch, where n is the number of processes."""
    starts = range(0, n, batch_size)
    each = [
        [np.arange(start, min(start + batch_size, n)) for start in starts[rank :: processes.count()]]
        for rank in range(processes.count())
    ]
    return [np.concatenate([np.empty(0, np.int64), *share]) for share in each]


def refuse_not_finite(embeddings: torch.Tensor) -> None:
    """Refuse embeddings that are not finite.

    Args:
        embeddings: float32 `(N, D)`.

    Raises:
        MethodFailure: Counts the embeddings that are not finite, and gives the index of the first one.
    """
    indices = torch.nonzero(~torch.isfinite(embeddings).all(1)).flatten().tolist()
    if indices:
        raise MethodFailure(f"{len(indices)} of {len(embeddings)} embeddings are not finite (first: index {indices[0]})")


def refuse_collapse(embeddings: torch.Tensor) -> None:
    """Refuse embeddings that have collapsed to a single point, or that are not finite.

    Args:
        embeddings: float32 `(N, D)`, L2-normalised.

    Raises:
        MethodFailure: The embeddings have collapsed, or one of them is not finite.
    """
    refuse_not_finite(embeddings)
    rows = embeddings.double()
    if not rows.any():
        raise MethodFailure("the embedding collapsed: every embedding is zero")
    # For unit vectors, the mean of 1 - cosine over all pairs equals 1 - |mean|^2. A zero vector has no direction.
    spread = (rows.square().sum(1).mean() - rows.mean(0).square().sum()).item()
    if spread < COLLAPSED_BELOW:
        raise MethodFailure(f"the embedding collapsed: the mean distance (1 - cosine) between images is {spread:.1e}")
