"""Inner products whose last bit can be trusted, and how far those of a matrix product may be off.

A score is the inner product of two float32 vectors as a correctly rounded float64, a property of the pair alone. A
matrix product sums in an order of its own, which depends on where the pair stands, so that equal scores come out unequal
and unequal ones equal; `rounding` bounds by how much.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MANTISSA = {torch.float32: 24, torch.float64: 53}


def float64_dots(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each pair of rows, float32 `(P, D)` both, summed in float64 in any order: float64 `(P,)`."""
    return (left.double() * right).sum(1)


def exact_dots(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each pair of rows, rounded once.

    Products of float32 numbers are exact in float64. They are summed in pairs, the rounding of each sum is kept beside it
    (Knuth's TwoSum), and added in the end: as accurate as a sum in twice the precision, on every device the same.

    Args:
        left: float32 `(P, D)`.
        right: the same.

    Returns:
        float64 `(P,)`.

    Source: Ogita, Rump, Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 2005.

    >>> exact_dots(torch.tensor([[2.0**60, 1.0, -(2.0**60)]]), torch.ones(1, 3)).item()
    1.0
    """
    total = left.double() * right.double()
    lost = torch.zeros_like(total)
    while total.shape[1] > 1:
        half = total.shape[1] // 2
        a, b, odd = total[:, :half], total[:, half : 2 * half], slice(2 * half, None)
        added = a + b
        second = added - a
        error = (a - (added - second)) + (b - second)
        lost = torch.cat([lost[:, :half] + lost[:, half : 2 * half] + error, lost[:, odd]], 1)
        total = torch.cat([added, total[:, odd]], 1)
    return (total + lost).sum(1)  # of one column, or of none


def rounding(dim: int, dtype: torch.dtype) -> float:
    """How far a matrix product of `dim` columns may be off, as a share of `|q| |g|`, whatever its order of summation.

    The textbook's bound `D u / (1 - D u)`, u the unit roundoff, and four u more for what is compared with it.

    Source: Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1.
    """
    unit = 2.0 ** -_MANTISSA[dtype]
    return (dim + 4) * unit / (1 - (dim + 4) * unit)


def bits_of(values: Tensor, limit: int = 64) -> int:
    """Bits that hold every component as an integer multiple of one power of two; more than `limit` may stop short.

    Args:
        values: float32 `(N, D)`, finite.
        limit: above which the number does not matter.

    >>> bits_of(torch.tensor([[0.5, -3.0]])), bits_of(torch.zeros(2, 2))
    (3, 0)
    """
    highest, lowest = -math.inf, math.inf
    for part in (values[:16], values[16:]):
        components = part[part != 0]
        if len(components):
            mantissa, exponent = torch.frexp(components)
            whole = (mantissa.double() * 2**24).long()
            trailing = torch.log2((whole & -whole).double())
            highest = max(highest, exponent.max().item())
            lowest = min(lowest, (exponent - 24 + trailing).min().item())
        if highest - lowest > limit:
            break
    return int(max(0, highest - lowest))


def is_exact(query_bits: int, gallery_bits: int, dim: int, dtype: torch.dtype) -> bool:
    """Whether every partial sum of a matrix product is exact, as for binary and small integer codes."""
    return query_bits + gallery_bits + math.ceil(math.log2(max(1, dim))) <= _MANTISSA[dtype]
