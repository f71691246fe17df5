"""Inner products that are correct to the last bit, and error bounds for the inner products of a matrix product.

The score of a pair is the inner product of two float32 vectors as a correctly rounded float64 number. It depends on the two
vectors only. A matrix product sums in an order that depends on where the vectors are in the matrices, so it may give different
results for equal scores, and equal results for different scores. `error_bound` limits by how much.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

SEGMENT = 16  # dimensions that `segment_dots` adds in float32
_MANTISSA_BITS = {torch.float32: 24, torch.float64: 53}


def segment_dots(left: Tensor, right: Tensor) -> Tensor:
    """Compute the inner product of each pair of rows in float32, with the error of `SEGMENT` dimensions.

    Products are added in float32 within segments of `SEGMENT` dimensions. The sums of the segments are added in float64.

    Args:
        left: float32 `(P, D)`.
        right: float32 `(P, D)`.

    Returns:
        float64 `(P,)`.
    """
    products = left * right
    if missing := -products.shape[1] % SEGMENT:
        products = pad(products, (0, missing))
    return products.unflatten(1, (SEGMENT, products.shape[1] // SEGMENT)).sum(1).double().sum(1)


def float64_dots(left: Tensor, right: Tensor) -> Tensor:
    """Compute the inner product of each pair of rows in float64, summed in any order.

    Args:
        left: float32 `(P, D)`.
        right: float32 `(P, D)`.

    Returns:
        float64 `(P,)`.
    """
    return (left.double() * right).sum(1)


def exact_dots(left: Tensor, right: Tensor) -> Tensor:
    """Compute the inner product of each pair of rows, rounded once, as far as twice the precision of float64 tells.

    Products of float32 numbers are exact in float64. They are added in pairs, the rounding error of each addition is kept
    (Knuth's TwoSum), and the errors are added at the end. The result is as accurate as a sum in twice the precision, which is
    then rounded, and it is the same on every device. It can differ from the correctly rounded number only if products cancel to
    less than 2^-50 of the largest, or if the sum is that close to the middle of two numbers.

    Args:
        left: float32 `(P, D)`.
        right: float32 `(P, D)`.

    Returns:
        float64 `(P,)`.

    Source: Ogita, Rump, Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 2005.

    >>> exact_dots(torch.tensor([[2.0**60, 1.0, -(2.0**60)]]), torch.ones(1, 3)).item()
    1.0
    """
    total = left.double() * right.double()
    errors = torch.zeros_like(total)
    while total.shape[1] > 1:
        half = total.shape[1] // 2
        a, b, odd = total[:, :half], total[:, half : 2 * half], slice(2 * half, None)
        added = a + b
        second = added - a
        error = (a - (added - second)) + (b - second)
        errors = torch.cat([errors[:, :half] + errors[:, half : 2 * half] + error, errors[:, odd]], 1)
        total = torch.cat([added, total[:, odd]], 1)
    return (total + errors).sum(1)  # one column is left, or none if D is 0


def error_bound(dim: int, dtype: torch.dtype) -> float:
    """Bound the error of an inner product in a matrix product, relative to `|q| |g|`, for any order of summation.

    This is the standard bound `D u / (1 - D u)`, with the unit roundoff u, plus 4 u for the numbers that the inner product is
    compared with.

    Args:
        dim: Number of dimensions D.
        dtype: dtype of the matrix product.

    Source: Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1.
    """
    unit = 2.0 ** -_MANTISSA_BITS[dtype]
    return (dim + 4) * unit / (1 - (dim + 4) * unit)


def required_bits(values: Tensor, limit: int = 64) -> int:
    """Count the bits that represent every component as an integer multiple of one power of two.

    Args:
        values: float32 `(N, D)`, finite.
        limit: Counting may stop above this number of bits.

    >>> required_bits(torch.tensor([[0.5, -3.0]])), required_bits(torch.zeros(2, 2))
    (3, 0)
    """
    highest, lowest = -math.inf, math.inf
    for part in (values[:16], values[16:]):
        components = part[part != 0]
        if len(components):
            mantissa, exponent = torch.frexp(components)
            whole = (mantissa.double() * 2**24).long()
            trailing = torch.frexp((whole & -whole).double()).exponent - 1  # exact, unlike a logarithm on some devices
            highest = max(highest, exponent.max().item())
            lowest = min(lowest, (exponent - 24 + trailing).min().item())
        if highest - lowest > limit:
            break
    return int(max(0, highest - lowest))


def is_exact(query_bits: int, gallery_bits: int, dim: int, dtype: torch.dtype) -> bool:
    """Return whether every partial sum of a matrix product is exact, as for binary codes and small integers.

    Args:
        query_bits: `required_bits` of the queries.
        gallery_bits: `required_bits` of the gallery.
        dim: Number of dimensions D.
        dtype: dtype of the matrix product.
    """
    return query_bits + gallery_bits + math.ceil(math.log2(max(1, dim))) <= _MANTISSA_BITS[dtype]
