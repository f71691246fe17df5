"""Embeddings with labels, ids and roles, in memory or in a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmlbench.evaluation.embedding_rows import Rows
from dmlbench.evaluation.ranking import Ranking, rank
from dmlbench.evaluation.single_precision import to_single_precision


@dataclass(frozen=True, eq=False)
class Embeddings:
    """N embeddings and the items that they belong to.

    Items that are neither query nor gallery are training items. They are only used to fit transformations, such as whitening.

    Args:
        rows: float32 `(N, D)`, a tensor or the rows of a file.
        labels: int64 `(N,)`, class of each item.
        ids: int64 `(N,)`, unique.
        is_query: bool `(N,)`.
        is_gallery: bool `(N,)`.
    """

    rows: Rows
    labels: Tensor
    ids: Tensor
    is_query: Tensor
    is_gallery: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def ranking(self, depth: int, progress: bool = False) -> Ranking:
        """Rank the gallery for each query.

        Args:
            depth: Smallest number of ranks to compute; see `rank`.
            progress: Show a progress bar for searches of more than two seconds.
        """
        queries = self.only(self.is_query)
        gallery = queries if self.is_query.equal(self.is_gallery) else self.only(self.is_gallery)
        return rank(
            queries.rows, gallery.rows, queries.labels, gallery.labels, queries.ids, gallery.ids, depth, progress=progress
        )

    def only(self, which: Tensor) -> Embeddings:
        """Select items, in the same order. Nothing is read or copied if all are selected.

        Args:
            which: bool `(N,)`.
        """
        if which.all():
            return self
        return self.in_order(which.nonzero().squeeze(1))

    def in_order(self, indices: Tensor) -> Embeddings:
        """Select items in a given order.

        Args:
            indices: int64 `(n,)`.
        """
        rows = self.rows[indices] if isinstance(self.rows, Tensor) else _SelectedRows(self.rows, indices)
        return Embeddings(rows, self.labels[indices], self.ids[indices], self.is_query[indices], self.is_gallery[indices])

    @property
    def evaluated(self) -> Embeddings:
        """Queries and gallery, without training items."""
        return self.only(self.is_query | self.is_gallery)

    @property
    def training(self) -> Embeddings:
        """Training items."""
        return self.only(~(self.is_query | self.is_gallery))

    def on(self, device: str) -> Embeddings:
        """Return the same embeddings with the rows on a device, where they are compared.

        Args:
            device: `cpu` or `cuda`.
        """
        return self if self.rows.device.type == device else replace(self, rows=self.rows[: len(self)].to(device))

    def in_memory(self) -> Embeddings:
        """Return the same embeddings with the rows as a tensor."""
        return self if isinstance(self.rows, Tensor) else replace(self, rows=self.rows[: len(self)])


@dataclass(frozen=True, eq=False)
class FileRows:
    """A matrix in a file. Rows are read when they are indexed.

    Args:
        file: File that contains the matrix, row after row.
        offset: Position of the first row, in bytes.
        dtype: NumPy's name of the components' dtype.
        size: N and D.
    """

    file: Path
    offset: int
    dtype: str
    size: tuple[int, int]

    @property
    def shape(self) -> torch.Size:
        """N and D."""
        return torch.Size(self.size)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def __len__(self) -> int:
        return self.size[0]

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        if isinstance(rows, slice):
            begin, end, _ = rows.indices(len(self))
            return self._read(begin, max(begin, end))
        if not len(rows):
            return self._read(0, 0)
        if (rows[1:] - rows[:-1] == 1).all():
            return self._read(int(rows[0]), int(rows[-1]) + 1)
        wanted, back = rows.unique(return_inverse=True)  # ascending
        cuts = ((wanted[1:] - wanted[:-1]) > 1).nonzero().squeeze(1) + 1
        runs = wanted.tensor_split(cuts)
        return torch.cat([self._read(int(run[0]), int(run[-1]) + 1) for run in runs])[back]

    def _read(self, begin: int, end: int) -> Tensor:
        width, item = self.size[1], np.dtype(self.dtype)
        values = np.fromfile(self.file, item, (end - begin) * width, offset=self.offset + begin * width * item.itemsize)
        return torch.from_numpy(to_single_precision(str(self.file), values.reshape(end - begin, width)))


@dataclass(frozen=True, eq=False)
class _SelectedRows:
    """Selected rows of a file."""

    rows: Rows
    indices: Tensor

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.indices), self.rows.shape[1]))

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        return self.rows[self.indices[rows]]
