"""The gallery as a search sees it: distinct vectors, each standing for one item or several.

Equal rows tie for every query, so they are searched once. That makes a collapsed embedding, one vector for all items, the
cheapest of all, where sorting its ties would be the dearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlbench.errors import MethodFailure
from dmlbench.evaluation.exact_dot import bits_of

_COMPONENTS_AT_ONCE = 2**21
_ROWS_NAMED = 5
_SAFE_EXPONENT = 30  # products of numbers up to 2^30 stay far from the ends of float32


class Rows(Protocol):
    """Float32 rows `(N, D)`: a tensor, or a file of them."""

    @property
    def shape(self) -> torch.Size:
        """N and D."""

    @property
    def device(self) -> torch.device:
        """Where they are searched."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over some rows finds.

    Args:
        hashes: int64 `(N,)`, equal for equal rows.
        norms: float64 `(N,)`.
        bits: that hold every component as an integer, see `bits_of`; 64 where it takes many.
    """

    hashes: Tensor
    norms: Tensor
    bits: int


def validate_and_hash(side: str, rows: Rows) -> Survey:
    """Look at each row once.

    Args:
        side: `query` or `gallery`, or nothing, for the error.
        rows: N of them.

    Raises:
        MethodFailure: a row is NaN or infinite; the first are named.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (-(-rows.shape[1] // 2),), generator=generator).to(rows.device)
    # Results kept from each part among its temporaries would fragment the heap, by the size of all rows.
    hashes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    norms = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    broken, bits = [], 0
    for begin, part in parts(rows):
        here = slice(begin, begin + len(part))
        norms[here] = torch.linalg.vector_norm(part, dim=1, dtype=torch.float64)
        if not norms[here].isfinite().all():
            broken += (begin + (~part.isfinite().all(1)).nonzero().squeeze(1)).tolist()
        pairs = pad(part, (0, part.shape[1] % 2)).contiguous() + 0.0  # which makes one zero of -0 and 0
        hashes[here] = (pairs.view(torch.int64) * weights).sum(1)
        bits = bits if bits > 26 else max(bits, bits_of(part, limit=26))
    if broken:
        named = ", ".join(map(str, broken[:_ROWS_NAMED])) + (", ..." if len(broken) > _ROWS_NAMED else "")
        what = f"{side} embeddings".strip()
        raise MethodFailure(f"{len(broken)} of {len(rows)} {what} are NaN or infinite (rows {named})")
    return Survey(hashes, norms, bits)


def parts(rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Consecutive parts of some rows, each with the place of its first."""
    size = max(1, _COMPONENTS_AT_ONCE // max(1, rows.shape[1]))
    for begin in range(0, len(rows), size):
        yield begin, rows[begin : begin + size]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Distinct vectors and the items that they stand for, V vectors and G items; all on the device of the search.

    Args:
        rows: of the items, `(G, D)`.
        first: int64 `(V,)`, ascending, the item whose row a vector is.
        of_item: int64 `(G,)`, the vector of each item.
        n_items: int64 `(V,)`, items a vector.
        place: int64 `(V,)`, the place of the label that all of a vector's items carry; -1 where they carry several.
        labels: int64 `(C,)`, ascending.
        keys: int64 `(P,)`, ascending: place of the label times V, plus vector, for each pair of them that occurs.
        counts: int64 `(P,)`, items of each pair.
        norm: the greatest of all, scaled.
        exponent: of two, float64, by which components are scaled to keep products within float32; 0 as a rule.
        bits: see `bits_of`.
    """

    rows: Rows
    first: Tensor
    of_item: Tensor
    n_items: Tensor
    place: Tensor
    labels: Tensor
    keys: Tensor
    counts: Tensor
    norm: float
    exponent: Tensor
    bits: int

    @classmethod
    def of(cls, rows: Rows, labels: Tensor, found: Survey) -> Gallery:
        """Find the distinct vectors of some items with their labels, int64 `(G,)`, and what a survey found."""
        first, of_item = _distinct(rows, found.hashes)
        known, places = labels.unique(return_inverse=True)
        keys, counts = (places * len(first) + of_item).unique(return_counts=True)
        several = torch.bincount(keys % len(first), minlength=len(first)) > 1
        place = torch.where(several, -1, places[first])
        n_items = torch.bincount(of_item, minlength=len(first))
        exponent = exponents_of(found.norms.max())
        norm = torch.ldexp(found.norms.max(), -exponent).item()
        return cls(rows, first, of_item, n_items, place, known, keys, counts, norm, exponent, found.bits)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def dim(self) -> int:
        """D."""
        return self.rows.shape[1]

    def vectors(self, which: Tensor | slice) -> Tensor:
        """Some of the distinct vectors, float32 `(., D)`, scaled; consecutive ones are read in one go."""
        if isinstance(which, slice):
            items = self.first[which]
            span = slice(int(items[0]), int(items[-1]) + 1)
            found = self.rows[span]
            found = found if len(found) == len(items) else found[items - items[0]]
        else:
            found = self.rows[self.first[which]]
        return scaled(found, self.exponent)

    def label_places(self, labels: Tensor) -> Tensor:
        """Where in `labels` each of some labels stands; -1 where it does not."""
        place = torch.searchsorted(self.labels, labels).clamp(max=len(self.labels) - 1)
        return torch.where(self.labels[place] == labels, place, -1)

    def n_of_label(self, places: Tensor, vectors: Tensor) -> Tensor:
        """Items of a label among those of a vector, int64, for each pair of the two."""
        known = self.place[vectors]
        n = torch.where(known == places, self.n_items[vectors], 0)
        several = (known < 0).nonzero(as_tuple=True)
        if len(several[0]):
            wanted = places[several] * len(self) + vectors[several]
            found = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
            n[several] = torch.where(self.keys[found] == wanted, self.counts[found], 0)
        return n

    def of_labels(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The vectors of `(B,)` places of labels, -1 for none: positions in `places`, vectors and counts, int64 `(P,)`."""
        begin = torch.searchsorted(self.keys, places * len(self))
        lengths = torch.searchsorted(self.keys, (places + 1) * len(self)) - begin
        line = torch.repeat_interleave(lengths)
        within = torch.arange(len(line), device=line.device) - (lengths.cumsum(0) - lengths)[line]
        pair = begin[line] + within
        return line, self.keys[pair] % len(self), self.counts[pair]


def scaled(rows: Tensor, exponents: Tensor) -> Tensor:
    """Rows `(., D)` divided by powers of two, one for all or one a row: exact."""
    if not exponents.any():
        return rows
    return torch.ldexp(rows.double(), -exponents.expand(len(rows))[:, None]).float()


def exponents_of(norms: Tensor) -> Tensor:
    """The powers of two by which rows have to be divided, in the shape and dtype of their norms; 0 where these are near 1."""
    exponents = torch.frexp(norms).exponent.to(norms.dtype)  # as integers, ldexp would take the power in float32
    return torch.where((norms > 0) & (exponents.abs() > _SAFE_EXPONENT), exponents, 0)


def _distinct(rows: Rows, hashes: Tensor) -> tuple[Tensor, Tensor]:
    """The first item of each distinct row, ascending, and the vector of each item.

    Rows that share a hash but are not equal stay apart from the first of them; that two such are equal to each other is
    left to the scores, which tie them all the same.
    """
    items = torch.arange(len(hashes), device=hashes.device)
    ascending, order = hashes.sort(stable=True)
    starts = torch.ones_like(ascending, dtype=torch.bool)
    starts[1:] = ascending[1:] != ascending[:-1]
    if starts.all():
        return items, items
    run = starts.cumsum(0) - 1
    leader = torch.empty_like(items)
    leader[order] = order[starts][run]
    for part in (leader != items).nonzero().squeeze(1).split(max(1, _COMPONENTS_AT_ONCE // max(1, rows.shape[1]))):
        unequal = (rows[part] != rows[leader[part]]).any(1)
        leader[part[unequal]] = part[unequal]
    first, of_item = leader.unique(return_inverse=True)
    return first, of_item
