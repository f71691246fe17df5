"""Images to embeddings, with the trained model as it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm import tqdm

from dmlbench.data.loader import AnyBatches, to_device
from dmlbench.errors import MethodFailure
from dmlbench.models.embedder import Embedder

# Embeddings whose mean pairwise distance (1 - cosine) lies below this are one point, up to the rounding of float32.
COLLAPSED = 1e-6


@torch.no_grad()
def embed(
    model: Embedder, batches: AnyBatches, ids: Sequence[int], device: str, precision: str, unit: bool = True
) -> torch.Tensor:
    """Embed images, centre-cropped.

    Args:
        model: on `device`.
        batches: loads the images, or their features.
        ids: of the images, N of them.
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16`.
        unit: whether to bring them to unit length.

    Returns:
        float32 `(N, D)` on the CPU.
    """
    model.eval()
    parts = []
    with tqdm(total=len(ids), disable=None, unit="image", desc="embed", leave=False) as bar:
        for images, _ in batches.test(ids):
            moved = to_device(images, device)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
                parts.append((model(moved) if unit else model.features(moved)).float().cpu())
            bar.update(len(images))
    return torch.cat(parts)


def refuse_not_finite(embeddings: torch.Tensor) -> None:
    """Refuse embeddings, float32 `(N, D)`, with a component that is no number.

    Raises:
        MethodFailure: counts them, and names the first.
    """
    broken = torch.nonzero(~torch.isfinite(embeddings).all(1)).flatten().tolist()
    if broken:
        raise MethodFailure(f"{len(broken)} of {len(embeddings)} embeddings are not finite (first: line {broken[0]})")


def refuse_collapse(embeddings: torch.Tensor) -> None:
    """Refuse embeddings that are all one point, or not finite.

    Args:
        embeddings: float32 `(N, D)`, of unit length.

    Raises:
        MethodFailure: says which.
    """
    refuse_not_finite(embeddings)
    # For unit vectors the mean of 1 - cosine over all pairs is 1 - |mean|^2.
    spread = 1 - embeddings.double().mean(0).square().sum().item()
    if spread < COLLAPSED:
        raise MethodFailure(f"the embedding collapsed: the mean distance (1 - cosine) of two images is {spread:.1e}")
