"""The triplet miner of pytorch-metric-learning without its list of all triplets."""

from __future__ import annotations

import torch
from pytorch_metric_learning import miners
from pytorch_metric_learning.utils import loss_and_miner_utils

TRIPLETS_AT_ONCE = 2**18  # bounds the temporary memory


class TripletMarginMiner(miners.TripletMarginMiner):
    """Returns the same triplets as the library's class, in the same order.

    The library lists all triplets of a batch, with a mask over B^3 of them, before it selects some. This class compares one
    block of positive pairs with all negatives at a time, and lists the selected triplets only. Comparisons are the same
    operations on the same distances, so the triplets are equal, and so are loss and gradient, bit by bit. Arguments are
    those of the library's class.
    """

    def mine(
        self, embeddings: torch.Tensor, labels: torch.Tensor, ref_emb: torch.Tensor, ref_labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Select triplets.

        Args:
            embeddings: float `(B, D)`.
            labels: int64 `(B,)`.
            ref_emb: Embeddings of positives and negatives, float `(R, D)`.
            ref_labels: Their labels, int64 `(R,)`.

        Returns:
            Anchors, positives and negatives, each int64 `(T,)`.
        """
        if self.collect_stats:  # statistics need all triplets
            return super().mine(embeddings, labels, ref_emb, ref_labels)
        matches, diffs = loss_and_miner_utils.get_matches_and_diffs(labels, ref_labels)
        differs = diffs.bool()
        distances = self.distance(embeddings, ref_emb)
        anchors, positives = torch.where(matches)
        found = [(anchors[:0], positives[:0], positives[:0])]
        size = max(TRIPLETS_AT_ONCE // len(ref_labels), 1)
        for a, p in zip(anchors.split(size), positives.split(size), strict=True):
            near, far = distances[a, p][:, None], distances[a]
            margins = near - far if self.distance.is_inverted else far - near
            pairs, negatives = torch.where(self._selected(margins) & differs[a])
            found.append((a[pairs], p[pairs], negatives))
        first, second, third = (torch.cat(parts) for parts in zip(*found, strict=True))
        return first, second, third

    def _selected(self, margins: torch.Tensor) -> torch.Tensor:
        if self.type_of_triplets == "easy":
            return margins > self.margin
        selected = margins <= self.margin
        if self.type_of_triplets == "hard":
            selected &= margins <= 0
        elif self.type_of_triplets == "semihard":
            selected &= margins > 0
        return selected
