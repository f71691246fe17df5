"""Cosine similarity of the attributes of each pair of images: predicted or annotated."""

from __future__ import annotations

import torch
from torch.nn import functional


def predicted_similarity(logits: torch.Tensor) -> torch.Tensor:
    """Return the cosine similarity of predicted attribute probabilities, the sigmoids of the logits.

    The probabilities of an image are divided by the largest of them first. This does not change the cosine, and probabilities
    that are too small for the dtype have a similarity and a gradient nevertheless.

    Args:
        logits: float `(B, K)`.

    Returns:
        float `(B, B)`, in [0, 1].
    """
    logarithms = functional.logsigmoid(logits)
    relative = torch.exp(logarithms - logarithms.amax(1, keepdim=True).detach())
    unit = functional.normalize(relative)
    return unit @ unit.T


def annotated_similarity(attributes: torch.Tensor) -> torch.Tensor:
    """Return the cosine similarity of annotated attributes, over the attributes that are known for both images of a pair.

    Args:
        attributes: float `(B, K)`, 0, 1, or NaN for a missing value.

    Returns:
        float `(B, B)`, in [0, 1]; 0 if one of the images has none of the attributes that are known for both.
    """
    known = torch.isfinite(attributes).to(attributes.dtype)
    present = torch.nan_to_num(attributes, nan=0.0)
    both, own = present @ present.T, present @ known.T  # a value of 0 or 1 is its square
    return both / torch.sqrt(own * own.T).clamp(min=1)
