"""SoftTriple, in memory proportional to the number of classes."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize, one_hot, softmax

from dmlbench.losses.arguments import require_above_zero, require_at_least
from dmlbench.losses.softtriple_steps import RelaxedSimilarities

# Above this number of classes, gradients are computed by hand, in less time and equal within rounding. Up to it, values and
# gradients are those of automatic differentiation, bit by bit, and the time does not matter.
MOST_CLASSES = 1024


class SoftTripleLoss(nn.Module):
    """A softmax over classes with several centres each, and a regulariser that merges the centres of a class.

    Equals `SoftTripleLoss` of pytorch-metric-learning with its `SparseCentersRegularizer`, which compares all centres with each
    other and therefore needs memory for `(C K)^2` similarities. This class compares the centres of each class only.

    Args:
        num_classes: Number C of training classes.
        embedding_size: Size D of the embedding.
        centers_per_class: Number K of centres per class.
        la: Scale of the similarities in the softmax over classes.
        gamma: Temperature of the softmax over the centres of a class; their similarities are divided by it.
        margin: Margin of the similarity to the own class.
        weight_reg_weight: Weight of the regulariser, half the mean distance between two centres of a class. With 0, it is not
            computed.

    Source:
        Qian et al., ICCV 2019, arXiv:1909.05235; loss/SoftTriple.py in idstcv/SoftTriple.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        centers_per_class: int = 10,
        la: float = 20,
        gamma: float = 0.1,
        margin: float = 0.01,
        weight_reg_weight: float = 0.2,
    ) -> None:
        super().__init__()
        require_above_zero(gamma=gamma)
        require_at_least(1, centers_per_class=centers_per_class)
        self.num_classes = num_classes
        self.centers_per_class = centers_per_class
        self.la = la
        self.inverse_gamma = 1 / gamma
        self.margin = margin
        self.weight_reg_weight = weight_reg_weight
        self.fc = nn.Parameter(torch.empty(embedding_size, num_classes * centers_per_class))
        nn.init.kaiming_uniform_(self.fc, a=math.sqrt(5))  # as in the authors' code

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: float `(B, D)`.
            labels: int64 `(B,)`, from 0 to C - 1.

        Returns:
            The loss, a scalar.
        """
        embeddings = normalize(embeddings)
        regularised = self.weight_reg_weight != 0 and self.centers_per_class > 1
        if self.num_classes > MOST_CLASSES:
            arguments = (embeddings, self.fc, self.centers_per_class, self.inverse_gamma, regularised)
            similarity, distance = RelaxedSimilarities.apply(*arguments)
        else:
            similarity, distance = self._similarities(embeddings, regularised)
        margins = self.margin * one_hot(labels, self.num_classes).to(embeddings.dtype)
        loss = cross_entropy(self.la * (similarity - margins), labels, reduction="none").mean()
        if regularised:
            pairs = self.num_classes * self.centers_per_class * (self.centers_per_class - 1)
            loss = loss + distance / pairs * self.weight_reg_weight
        return loss

    def _similarities(self, embeddings: torch.Tensor, with_distances: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The similarities to the classes, float `(B, C)`, and the sum of the distances between the centres of each class."""
        centres = normalize(self.fc.t(), dim=1)
        similarity = (embeddings @ centres.t()).view(len(embeddings), -1, self.centers_per_class)
        relaxed = (softmax(similarity * self.inverse_gamma, dim=2) * similarity).sum(2)
        return relaxed, self._distances(centres).sum() if with_distances else relaxed.new_zeros(())

    def _distances(self, centres: torch.Tensor) -> torch.Tensor:
        """Distances between the centres of each class, each pair once."""
        by_class = centres.view(-1, self.centers_per_class, centres.shape[1])
        first, second = torch.triu_indices(self.centers_per_class, self.centers_per_class, 1, device=centres.device)
        cosine = (by_class @ by_class.transpose(1, 2))[:, first, second]
        # Adding the smallest positive number keeps the gradient of equal centres finite.
        return torch.sqrt(2 + torch.finfo(centres.dtype).tiny - (2 * cosine).clamp(max=2))
