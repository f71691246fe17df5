"""The rows of an embedding matrix, in memory or in a file: checks and statistics that need one pass over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlbench.errors import MethodFailure
from dmlbench.evaluation.exact_dot import required_bits

MAX_COMPONENTS = 2**18  # components of rows that are processed at a time; they stay in the cache
_MAX_ROWS_NAMED = 5
_MAX_BITS = 26  # counted up to here, because with more bits a matrix product is rarely exact
_MANY_BITS = 64  # stands for every larger number of bits; no matrix product is exact with it


class Rows(Protocol):
    """Embeddings, float32 `(N, D)`, in memory (a tensor) or in a file."""

    @property
    def shape(self) -> torch.Size:
        """N and D."""

    @property
    def device(self) -> torch.device:
        """Device on which the rows are searched."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class RowStatistics:
    """What one pass over N rows computes.

    Args:
        hashes: int64 `(N,)`, equal for equal rows.
        norms: float64 `(N,)`, Euclidean norm of each row.
        bits: See `required_bits`; 64 for every number above 26.
    """

    hashes: Tensor
    norms: Tensor
    bits: int


def validate_and_hash(side: str, rows: Rows) -> RowStatistics:
    """Check that all rows are finite, and compute their hashes and norms.

    Args:
        side: `query`, `gallery`, or empty; for the error message.
        rows: float32 `(N, D)`.

    Raises:
        MethodFailure: A row contains NaN or infinity. The message gives the first of these rows.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (-(-rows.shape[1] // 2),), generator=generator).to(rows.device)
    # Allocated at once: small results that are allocated between large temporary tensors would fragment the heap.
    hashes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    norms = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    not_finite, bits = [], 0
    for begin, chunk in row_chunks(rows):
        here = slice(begin, begin + len(chunk))
        norms[here] = chunk.double().square_().sum(1).sqrt_()  # several times as fast as `vector_norm`
        if not norms[here].isfinite().all():
            not_finite += (begin + (~chunk.isfinite().all(1)).nonzero().squeeze(1)).tolist()
        pairs = pad(chunk, (0, chunk.shape[1] % 2)).contiguous() + 0.0  # the addition turns -0 into 0
        hashes[here] = (pairs.view(torch.int64) * weights).sum(1)
        bits = bits if bits > _MAX_BITS else max(bits, required_bits(chunk, limit=_MAX_BITS))
    if not_finite:
        first = ", ".join(map(str, not_finite[:_MAX_ROWS_NAMED])) + (", ..." if len(not_finite) > _MAX_ROWS_NAMED else "")
        name = f"{side} embeddings".strip()
        raise MethodFailure(f"{len(not_finite)} of {len(rows)} {name} are NaN or infinite (rows {first})")
    return RowStatistics(hashes, norms, bits if bits <= _MAX_BITS else _MANY_BITS)


def row_chunks(rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Iterate over consecutive rows, at most `MAX_COMPONENTS` components at a time.

    Args:
        rows: float32 `(N, D)`.

    Yields:
        Index of the first row of a chunk, and the chunk, float32 `(n, D)`.
    """
    size = max(1, MAX_COMPONENTS // max(1, rows.shape[1]))
    for begin in range(0, len(rows), size):
        yield begin, rows[begin : begin + size]
