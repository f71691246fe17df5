"""Contrastive loss of a batch with a memory of the embeddings of earlier batches."""

from __future__ import annotations

import torch
from torch import nn

from dmlbench.losses.arguments import require_at_least

SAME_IMAGE_ABOVE = 1 - 1e-5  # positives with a higher similarity are taken for the same image, as in the authors' code


class CrossBatchMemoryLoss(nn.Module):
    """The contrastive loss within the batch, plus the same loss between the batch and a memory.

    The memory is a queue of the latest embeddings, the current batch included. They have no gradient. It is part of
    `state_dict()`, so a resumed run has the same memory.

    Args:
        embedding_size: Size D of the embedding.
        memory_size: Number M of embeddings in the memory.
        margin: Cosine similarity above which a negative pair contributes.
        start_step: Number of steps before the memory is used and filled.
        memory_weight: Weight of the loss between batch and memory.

    Source:
        Wang et al., CVPR 2020, arXiv:1912.06798; losses/contrastive_loss.py and engine/trainer.py in msight-tech/research-xbm.
    """

    # Buffers
    embeddings: torch.Tensor
    labels: torch.Tensor
    step: torch.Tensor

    def __init__(
        self,
        embedding_size: int,
        memory_size: int,
        margin: float = 0.5,
        start_step: int = 1000,
        memory_weight: float = 1.0,
    ) -> None:
        super().__init__()
        require_at_least(1, memory_size=memory_size)
        require_at_least(0, start_step=start_step)
        self.margin = margin
        self.start_step = start_step
        self.memory_weight = memory_weight
        self.register_buffer("embeddings", torch.zeros(memory_size, embedding_size))
        self.register_buffer("labels", torch.full((memory_size,), -1))  # -1: not yet filled
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def n_memory_steps(self) -> int:
        """Number of steps in which the memory was used."""
        return max(int(self.step) - self.start_step, 0)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Compute the loss of a batch, and add the batch to the memory.

        Args:
            embeddings: float `(B, D)`, L2-normalised.
            labels: int64 `(B,)`.

        Returns:
            The loss, a scalar.
        """
        loss = self._contrastive(embeddings, labels, embeddings, labels)
        step = int(self.step)
        self.step += 1
        if step < self.start_step:
            return loss
        self._enqueue(embeddings.detach(), labels, step - self.start_step)
        filled = self.labels >= 0
        memory = self._contrastive(embeddings, labels, self.embeddings[filled], self.labels[filled])
        return loss + self.memory_weight * memory

    def _enqueue(self, embeddings: torch.Tensor, labels: torch.Tensor, step: int) -> None:
        """Overwrite the oldest embeddings. All batches of a training have the same size, so the step gives the position."""
        size, kept = len(self.labels), min(len(labels), len(self.labels))
        slots = (torch.arange(kept, device=labels.device) + step * kept) % size
        self.embeddings[slots] = embeddings[-kept:].to(self.embeddings.dtype)
        self.labels[slots] = labels[-kept:]

    def _contrastive(
        self, embeddings: torch.Tensor, labels: torch.Tensor, others: torch.Tensor, other_labels: torch.Tensor
    ) -> torch.Tensor:
        """Sum over the pairs of an item, averaged over the items of the batch."""
        similarity = embeddings @ others.T
        same = labels[:, None] == other_labels[None, :]
        positive = same & (similarity < SAME_IMAGE_ABOVE)
        negative = ~same & (similarity > self.margin)
        zero = torch.zeros((), dtype=similarity.dtype, device=similarity.device)
        losses = torch.where(positive, 1 - similarity, zero) + torch.where(negative, similarity, zero)
        return losses.sum() / len(embeddings)
