"""Binomial deviance over pairs, plain or softened by the similarity of the pair's attributes."""

from __future__ import annotations

import torch
from pytorch_metric_learning.utils import loss_and_miner_utils as pml_pairs
from torch import nn
from torch.nn import functional

from dmlbench.losses.arguments import require_above_zero
from dmlbench.losses.attribute_similarity import annotated_similarity

Indices = tuple[torch.Tensor, ...]  # of triplets (a, p, n), or of pairs (a1, p, a2, n)


def binomial_deviance(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    indices: Indices | None,
    alpha: float,
    beta: float,
    attribute_similarity: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the mean deviance of positive pairs plus the mean deviance of negative pairs.

    With the cosine similarity s of a pair and the similarity g of its attributes, which is 0 in the plain loss, the deviance of
    a positive pair is log(1 + exp(-alpha (s + g - beta))), and that of a negative pair log(1 + exp(alpha (s - g - beta))).

    Args:
        embeddings: float `(B, D)`, L2-normalised.
        labels: int64 `(B,)`.
        indices: Triplets or pairs to use. None for all pairs of the batch.
        alpha: Scale of the similarities.
        beta: Similarity at which the deviance is log 2.
        attribute_similarity: float `(B, B)`, the similarities g. None for the plain loss.

    Returns:
        The loss, a scalar. A batch without positive or without negative pairs has no deviance of that kind.
    """
    anchors, positives, others, negatives = pml_pairs.convert_to_pairs(indices, labels)
    similarity = embeddings @ embeddings.T
    near, far = similarity[anchors, positives], similarity[others, negatives]
    if attribute_similarity is not None:
        near = near + attribute_similarity[anchors, positives]
        far = far - attribute_similarity[others, negatives]
    return _mean(functional.softplus(-alpha * (near - beta))) + _mean(functional.softplus(alpha * (far - beta)))


def _mean(values: torch.Tensor) -> torch.Tensor:
    """The mean; 0 of nothing, with a gradient of 0."""
    return values.sum() / max(len(values), 1)


class BinomialDevianceLoss(nn.Module):
    """The binomial deviance of all pairs of a batch.

    Args:
        alpha: Scale of the similarities, above 0.
        beta: Similarity at which the deviance is log 2.

    Raises:
        ValueError: `alpha` is not above 0.

    Source:
        Manandhar, Bastan & Yap, Semantic granularity metric learning for visual search, arXiv:1911.06047, equations 3 and 6
        with g = 0; after Yi, Lei & Li, Deep metric learning for practical person re-identification, ICPR 2014.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 0.5) -> None:
        super().__init__()
        require_above_zero(alpha=alpha)
        self.alpha = alpha
        self.beta = beta

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices_tuple: Indices | None = None) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`, L2-normalised.
            labels: int64 `(B,)`.
            indices_tuple: Triplets or pairs to use. None for all pairs.

        Returns:
            The loss, a scalar.
        """
        return binomial_deviance(embeddings, labels, indices_tuple, self.alpha, self.beta)


class SoftBinomialDevianceLoss(nn.Module):
    """The binomial deviance, softened by the similarity of the annotated attributes.

    Pairs with similar attributes cost less, whether positive or negative.

    Args:
        alpha: Scale of the similarities, above 0.
        beta: Similarity at which the deviance is log 2.

    Raises:
        ValueError: `alpha` is not above 0.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 0.5) -> None:
        super().__init__()
        require_above_zero(alpha=alpha)
        self.alpha = alpha
        self.beta = beta

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: Indices | None = None,
        *,
        attributes: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`, L2-normalised.
            labels: int64 `(B,)`.
            indices_tuple: Triplets or pairs to use. None for all pairs.
            attributes: float `(B, K)`, 0, 1, or NaN for a missing value.

        Returns:
            The loss, a scalar.
        """
        similarity = annotated_similarity(attributes).to(embeddings.dtype)
        return binomial_deviance(embeddings, labels, indices_tuple, self.alpha, self.beta, similarity)
