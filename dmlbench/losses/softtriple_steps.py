"""SoftTriple's similarities to many classes, with their gradients computed by hand, some classes at a time.

Automatic differentiation would normalise all centres, and keep or rebuild several tensors of their size. Here the centres are
only multiplied: similarities are divided by their lengths, and so are gradients. Elementwise work stays in the cache of a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

CLASSES_AT_ONCE = 256
SHORTEST = 1e-12  # shorter centres are divided by this, as `normalize` does


class RelaxedSimilarities(torch.autograd.Function):
    """The relaxed similarity of embeddings to classes, and the sum of the distances between the centres of each class."""

    @staticmethod
    def forward(
        ctx: Any, embeddings: torch.Tensor, centres: torch.Tensor, per_class: int, inverse_gamma: float, with_distances: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute similarities and distances.

        Args:
            ctx: Context of the function.
            embeddings: float `(B, D)`, of unit length.
            centres: float `(D, C K)`, of any length; those of a class are neighbours.
            per_class: Centres per class K.
            inverse_gamma: Factor of the similarities in the softmax over the centres of a class.
            with_distances: Whether to compute the distances; otherwise their sum is 0.

        Returns:
            Similarities `(B, C)`, and the sum over the pairs of centres of a class, a scalar.
        """
        similarity = embeddings.new_empty(len(embeddings), centres.shape[1])
        slope = torch.empty_like(similarity)  # derivative of the similarity to a class by those to its centres
        inverse = embeddings.new_empty(centres.shape[1])
        relaxed = embeddings.new_empty(len(embeddings), centres.shape[1] // per_class)
        n_classes = centres.shape[1] // per_class
        cosines = embeddings.new_empty(n_classes if with_distances else 0, per_class, per_class)
        ones = embeddings.new_ones(per_class)
        for classes, columns in _parts(n_classes, per_class):
            part = centres[:, columns]
            inverse[columns] = part.square().sum(0).sqrt_().clamp_(min=SHORTEST).reciprocal_()
            own = (embeddings @ part).mul_(inverse[columns]).view(-1, per_class)
            share = (own - own.amax(1, keepdim=True)).mul_(inverse_gamma).exp_()
            share.div_(share.mv(ones)[:, None])  # a softmax over ten values is several times as fast in this form
            mean = (share * own).mv(ones)
            relaxed[:, classes] = mean.view(len(embeddings), -1)
            similarity[:, columns] = own.view(len(embeddings), -1)
            own.sub_(mean[:, None]).mul_(inverse_gamma).add_(1).mul_(share)
            slope[:, columns] = own.view(len(embeddings), -1)
            if with_distances:
                own = _by_class(part, per_class)
                torch.bmm(own, own.transpose(1, 2), out=cosines[classes])
        lengths = inverse.view(-1, per_class)[: len(cosines)]
        cosines.mul_(lengths[:, :, None]).mul_(lengths[:, None, :])
        ctx.save_for_backward(embeddings, centres, similarity, slope, inverse, cosines)
        ctx.per_class = per_class
        return relaxed, _distances(cosines).sum() / 2  # each pair is in it twice

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        """Compute the gradients by embeddings and centres.

        Args:
            ctx: Context of the function.
            *grad_outputs: Gradients by the similarities and by the sum of distances.
        """
        embeddings, centres, similarity, slope, inverse, cosines = ctx.saved_tensors
        per_class, [grad, grad_distance] = ctx.per_class, grad_outputs
        by_embeddings, by_centres = torch.zeros_like(embeddings), torch.empty_like(centres)
        mixing = _mixing(cosines, inverse.view(-1, per_class)[: len(cosines)]) * grad_distance
        for classes, columns in _parts(grad.shape[1], per_class):
            part, lengths = centres[:, columns], inverse[columns]
            own = slope[:, columns].unflatten(1, (-1, per_class)) * grad[:, classes, None]
            by_similarity = own.flatten(1)
            radial = (by_similarity * similarity[:, columns]).sum(0).mul_(lengths.square())  # has no effect on directions
            by_similarity.mul_(lengths)
            by_embeddings.addmm_(by_similarity, part.t())
            torch.addcmul(embeddings.t() @ by_similarity, part, radial, value=-1, out=by_centres[:, columns])
            if len(mixing):
                by_centres[:, columns] += (mixing[classes] @ _by_class(part, per_class)).view(-1, len(part)).t()
        return by_embeddings, by_centres, None, None, None


def _parts(n_classes: int, per_class: int) -> Iterator[tuple[slice, slice]]:
    """Some classes at a time, and the columns of their centres."""
    for start in range(0, n_classes, CLASSES_AT_ONCE):
        end = min(start + CLASSES_AT_ONCE, n_classes)
        yield slice(start, end), slice(start * per_class, end * per_class)


def _by_class(part: torch.Tensor, per_class: int) -> torch.Tensor:
    """Centres `(D, c K)` as `(c, K, D)`, a view."""
    return part.t().view(-1, per_class, len(part))


def _distances(cosines: torch.Tensor) -> torch.Tensor:
    """Distances between the centres of each class, float `(C, K, K)`; that of a centre to itself is 0."""
    distances = (2 - 2 * cosines).clamp_(min=0).sqrt_()
    distances.diagonal(dim1=1, dim2=2).zero_()
    return distances


def _mixing(cosines: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """The gradient of the sum of distances by each centre, as weights of the centres of its class, float `(C, K, K)`.

    The distance of equal centres has no gradient.
    """
    distances = _distances(cosines)
    weights = torch.where(cosines < 1, 1 / distances, 0)
    weights.diagonal(dim1=1, dim2=2).zero_()
    mixing = -weights * inverse[:, :, None] * inverse[:, None, :]
    mixing.diagonal(dim1=1, dim2=2).copy_((weights * cosines).sum(2) * inverse.square())
    return mixing
