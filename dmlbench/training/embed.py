"""Embed images with a model, and refuse broken embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm import tqdm

from dmlbench.data.loader import AnyBatches, to_device
from dmlbench.errors import MethodFailure
from dmlbench.models.embedder import Embedder

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
        float32 `(N, D)`, on the CPU, in the order of `ids`.
    """
    model.eval()
    parts = []
    with tqdm(total=len(ids), disable=None, unit="image", desc="embed", leave=False) as bar:
        for images, _ in batches.test(ids):
            moved = to_device(images, device)
            parts.append((model(moved) if unit else model.features(moved)).float().cpu())
            bar.update(len(images))
    return torch.cat(parts)


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
