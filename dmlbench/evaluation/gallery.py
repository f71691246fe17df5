"""The gallery as a search reads it: distinct vectors, each with the items whose embedding it is.

Items with equal embeddings tie for every query, so their vector is searched once. A collapsed embedding, in which all items
have the same vector, is then the fastest case; sorting all of its ties would make it the slowest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dmlbench.evaluation.embedding_rows import MAX_COMPONENTS, Rows, RowStatistics

_SAFE_EXPONENT = 30  # products of numbers up to 2^30 neither overflow nor underflow in float32


@dataclass(frozen=True, eq=False)
class Gallery:
    """G items with V distinct vectors. All tensors are on the device of the search.

    Args:
        rows: float32 `(G, D)`, embeddings of the items.
        first_item: int64 `(V,)`, ascending; the first item with each vector.
        vector_of_item: int64 `(G,)`, index of the vector of each item.
        n_items: int64 `(V,)`, number of items with each vector.
        label_index: int64 `(V,)`, index into `labels` of the label of all items with a vector; -1 if their labels differ.
        labels: int64 `(C,)`, distinct labels, ascending.
        keys: int64 `(P,)`, ascending; index of a label times V, plus index of a vector, for each pair of these that occurs.
        counts: int64 `(P,)`, number of items of each pair.
        max_norm: Largest norm of a scaled row.
        exponent: float64 scalar. Rows are divided by this power of two, so that products stay in the range of float32;
            usually 0.
        bits: See `required_bits`.
    """

    rows: Rows
    first_item: Tensor
    vector_of_item: Tensor
    n_items: Tensor
    label_index: Tensor
    labels: Tensor
    keys: Tensor
    counts: Tensor
    max_norm: float
    exponent: Tensor
    bits: int

    @classmethod
    def build(cls, rows: Rows, labels: Tensor, statistics: RowStatistics) -> Gallery:
        """Find the distinct vectors of some items.

        Args:
            rows: float32 `(G, D)`.
            labels: int64 `(G,)`.
            statistics: Result of `validate_and_hash` for the rows.
        """
        first_item, vector_of_item = _distinct(rows, statistics.hashes)
        known, indices = labels.unique(return_inverse=True)
        keys, counts = (indices * len(first_item) + vector_of_item).unique(return_counts=True)
        has_several = torch.bincount(keys % len(first_item), minlength=len(first_item)) > 1
        label_index = torch.where(has_several, -1, indices[first_item])
        n_items = torch.bincount(vector_of_item, minlength=len(first_item))
        exponent = scaling_exponents(statistics.norms.max())
        max_norm = torch.ldexp(statistics.norms.max(), -exponent).item()
        return cls(
            rows, first_item, vector_of_item, n_items, label_index, known, keys, counts, max_norm, exponent, statistics.bits
        )

    def __len__(self) -> int:
        return len(self.first_item)

    @property
    def dim(self) -> int:
        """Number of dimensions D."""
        return self.rows.shape[1]

    def vectors(self, which: Tensor | slice) -> Tensor:
        """Read distinct vectors.

        Args:
            which: Indices of vectors, int64 `(n,)`, or a slice. A slice is read from a file with one access.

        Returns:
            float32 `(n, D)`, scaled.
        """
        if isinstance(which, slice):
            items = self.first_item[which]
            span = slice(int(items[0]), int(items[-1]) + 1)
            found = self.rows[span]
            found = found if len(found) == len(items) else found[items - items[0]]
        else:
            found = self.rows[self.first_item[which]]
        return scaled(found, self.exponent)

    def label_indices(self, labels: Tensor) -> Tensor:
        """Look up labels.

        Args:
            labels: int64 `(n,)`.

        Returns:
            Index of each in `self.labels`, int64 `(n,)`; -1 if no item has the label.
        """
        index = torch.searchsorted(self.labels, labels).clamp(max=len(self.labels) - 1)
        return torch.where(self.labels[index] == labels, index, -1)

    def count_items(self, label_indices: Tensor, vectors: Tensor) -> Tensor:
        """Count the items that have a given label and a given vector.

        Args:
            label_indices: int64, indices into `labels`.
            vectors: int64, indices of vectors, in the same shape.

        Returns:
            int64, in the same shape.
        """
        known = self.label_index[vectors]
        n = torch.where(known == label_indices, self.n_items[vectors], 0)
        several = (known < 0).nonzero(as_tuple=True)
        if len(several[0]):
            wanted = label_indices[several] * len(self) + vectors[several]
            found = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
            n[several] = torch.where(self.keys[found] == wanted, self.counts[found], 0)
        return n

    def vectors_with_labels(self, label_indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find all vectors of the items that have given labels.

        Args:
            label_indices: int64 `(B,)`, indices into `labels`; -1 finds nothing.

        Returns:
            Index into `label_indices`, index of the vector, and number of items with both; int64 `(P,)` each.
        """
        begin = torch.searchsorted(self.keys, label_indices * len(self))
        lengths = torch.searchsorted(self.keys, (label_indices + 1) * len(self)) - begin
        query = torch.repeat_interleave(lengths)
        within = torch.arange(len(query), device=query.device) - (lengths.cumsum(0) - lengths)[query]
        pair = begin[query] + within
        return query, self.keys[pair] % len(self), self.counts[pair]


def scaled(rows: Tensor, exponents: Tensor) -> Tensor:
    """Divide rows by powers of two, which is exact for numbers that stay above 2^-126.

    Args:
        rows: float32 `(n, D)`.
        exponents: float64, a scalar or `(n,)`.

    Returns:
        float32 `(n, D)`.
    """
    if not exponents.any():
        return rows
    return torch.ldexp(rows.double(), -exponents.expand(len(rows))[:, None]).float()


def scaling_exponents(norms: Tensor) -> Tensor:
    """Choose the powers of two by which rows are divided so that their products stay in the range of float32.

    Args:
        norms: float64, norms of the rows in any shape.

    Returns:
        Exponents, float64 in the same shape; 0 if a norm is near 1.
    """
    exponents = torch.frexp(norms).exponent.to(norms.dtype)  # with integer exponents, ldexp would compute in float32
    return torch.where((norms > 0) & (exponents.abs() > _SAFE_EXPONENT), exponents, 0)


def _distinct(rows: Rows, hashes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first item of each distinct row, ascending, and the index of each item's vector.

    Rows with equal hashes are compared with the first of them. If several rows differ from it, they stay distinct vectors
    even if they are equal to each other; they then tie by their scores.
    """
    items = torch.arange(len(hashes), device=hashes.device)
    ascending, order = hashes.sort(stable=True)
    is_start = torch.ones_like(ascending, dtype=torch.bool)
    is_start[1:] = ascending[1:] != ascending[:-1]
    if is_start.all():
        return items, items
    run = is_start.cumsum(0) - 1
    leader = torch.empty_like(items)
    leader[order] = order[is_start][run]
    for chunk in (leader != items).nonzero().squeeze(1).split(max(1, MAX_COMPONENTS // max(1, rows.shape[1]))):
        unequal = (rows[chunk] != rows[leader[chunk]]).any(1)
        leader[chunk[unequal]] = chunk[unequal]
    first_item, vector_of_item = leader.unique(return_inverse=True)
    return first_item, vector_of_item
