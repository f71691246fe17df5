"""Losses of networks that predict attributes beside the embedding: cross-entropy, multitask, and semantic granularity."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from dmlbench.losses.arguments import require_above_zero, require_at_least
from dmlbench.losses.attribute_similarity import predicted_similarity
from dmlbench.losses.binomial_deviance import Indices, binomial_deviance


def attribute_cross_entropy(logits: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
    """Compute the mean binary cross-entropy over the known attributes of a batch.

    Args:
        logits: float `(B, K)`.
        attributes: float `(B, K)`, 0, 1, or NaN for a missing value.

    Returns:
        The mean, a scalar; 0 if no attribute is known.
    """
    known = torch.isfinite(attributes).to(logits.dtype)
    targets = torch.nan_to_num(attributes, nan=0.0).to(logits.dtype)
    total = functional.binary_cross_entropy_with_logits(logits, targets, weight=known, reduction="sum")
    return total / known.sum().clamp(min=1)


class AttributeLoss(nn.Module):
    """The binary cross-entropy of the predicted attributes alone. Embeddings and labels are not used.

    Source:
        Manandhar, Bastan & Yap, arXiv:1911.06047, equation 2 and the attribute learning of tables IV and VIII.
    """

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Indices | None = None,
        *,
        logits: torch.Tensor,
        attributes: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: Not used.
            labels: Not used.
            indices_tuple: Not used.
            logits: Predicted attributes, float `(B, K)`.
            attributes: Annotated attributes, float `(B, K)`: 0, 1, or NaN for a missing value.

        Returns:
            The loss, a scalar.
        """
        return attribute_cross_entropy(logits, attributes)


class SemanticGranularityLoss(nn.Module):
    """Binomial deviance of the embeddings, plus the weighted cross-entropy of the predicted attributes.

    The deviance is softened by the similarity of the predicted attributes: pairs with similar predictions cost less. Its
    gradient also flows into the predictions, as equations 7 and 8 are written.

    Args:
        alpha: Scale of the similarities, above 0.
        beta: Similarity at which the deviance is log 2.
        attribute_weight: Weight lambda of the cross-entropy, at least 0; 0 leaves the softened deviance alone.
        linked: Whether the predicted attributes soften the deviance. False for the multitask network of the paper's ablation.
        detach: Whether the deviance treats the predicted attributes as constants.

    Raises:
        ValueError: `alpha` or `attribute_weight` is out of its range.

    Source:
        Manandhar, Bastan & Yap, Semantic granularity metric learning for visual search, arXiv:1911.06047, equations 1 to 8.
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 0.5,
        attribute_weight: float = 1.0,
        linked: bool = True,
        detach: bool = False,
    ) -> None:
        super().__init__()
        require_above_zero(alpha=alpha)
        require_at_least(0, attribute_weight=attribute_weight)
        self.alpha = alpha
        self.beta = beta
        self.attribute_weight = attribute_weight
        self.linked = linked
        self.detach = detach

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Indices | None = None,
        *,
        logits: torch.Tensor,
        attributes: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`, L2-normalised.
            labels: int64 `(B,)`.
            indices_tuple: Triplets or pairs to use. None for all pairs.
            logits: Predicted attributes, float `(B, K)`.
            attributes: Annotated attributes, float `(B, K)`: 0, 1, or NaN for a missing value.

        Returns:
            The loss, a scalar.
        """
        granularity = predicted_similarity(logits.detach() if self.detach else logits) if self.linked else None
        deviance = binomial_deviance(embeddings, labels, indices_tuple, self.alpha, self.beta, granularity)
        return deviance + self.attribute_weight * attribute_cross_entropy(logits, attributes)
