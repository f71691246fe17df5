"""Positions of labels beside markers, so that they overlap little and stay inside of the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dmlbench.pictures.labels import width

_DISTANCES = (-22.0, 30.0, -36.0, 44.0, 58.0, 72.0)  # of the baseline of a far label from its marker, downwards
_CHARACTER = 7.2  # width of a bold one, in units of a picture
_FAR = 20.0  # square units of overlap that are better than a place far from the marker
_MOST_OVERLAP = 30.0  # square units that a label of rank 1 may share with others


@dataclass(frozen=True)
class Label:
    """A label of a marker.

    Args:
        x: Horizontal coordinate of the marker.
        y: Vertical coordinate.
        text: Text.
        rank: 0 for one that is always visible, 1 for one that is visible if there is room, 2 for one that is not visible.
    """

    x: float
    y: float
    text: str
    rank: int = 0


@dataclass(frozen=True)
class Place:
    """Where a label is drawn.

    Args:
        x: Horizontal coordinate of its anchor.
        y: Vertical coordinate of its baseline.
        anchor: `start`, `middle` or `end`.
        far: Whether it is so far from its marker that a line has to join them.
        visible: Whether it is visible; otherwise, it appears on demand.
    """

    x: float
    y: float
    anchor: str
    far: bool = False
    visible: bool = True


@dataclass(frozen=True)
class Area:
    """A rectangle.

    Args:
        left: Smallest horizontal coordinate.
        top: Smallest vertical coordinate.
        right: Largest horizontal coordinate.
        bottom: Largest vertical coordinate.
    """

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Area) -> float:
        """Return the size of the common part.

        Args:
            other: Another rectangle.
        """
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(across, 0) * max(down, 0)


def label_places(labels: Sequence[Label], line: Sequence[tuple[float, float]], axes: Area) -> list[Place]:
    """Place labels, those of the smallest rank first.

    Args:
        labels: Labels, in any order.
        line: Corners of a line of horizontal and vertical parts, which labels avoid.
        axes: Area that no label leaves.

    Returns:
        One place per label, in the same order.
    """
    taken = [Area(one.x - 6, one.y - 6, one.x + 6, one.y + 6) for one in labels]
    taken += [Area(min(x, x2) - 2, min(y, y2) - 2, max(x, x2) + 2, max(y, y2) + 2) for (x, y), (x2, y2) in pairwise(line)]
    found: dict[int, Place] = {}
    for index in sorted(range(len(labels)), key=lambda index: labels[index].rank):
        one = labels[index]
        size = _CHARACTER * width(one.text)
        options = [_inside(place, size, axes) for place in _around(one)]
        costs = [sum(_box(place, size).overlap(other) for other in taken) + _FAR * place.far for place in options]
        best = costs.index(min(costs))
        visible = one.rank == 0 or (one.rank == 1 and costs[best] <= _MOST_OVERLAP)
        found[index] = replace(options[best], visible=visible)
        if visible:
            taken.append(_box(options[best], size))
    return [found[index] for index in range(len(labels))]


def _around(one: Label) -> list[Place]:
    x, y = one.x, one.y
    far = [Place(x + side * 12, y + down, "end" if side < 0 else "start", far=True) for down in _DISTANCES for side in (1, -1)]
    near = [
        *(Place(x + 9, y + 4, "start"), Place(x - 9, y + 4, "end"), Place(x, y - 10, "middle"), Place(x, y + 19, "middle")),
        *(Place(x + 7, y - 8, "start"), Place(x + 7, y + 17, "start"), Place(x - 7, y - 8, "end"), Place(x - 7, y + 17, "end")),
    ]
    return near if one.rank else [*near, *far]


def _box(place: Place, size: float) -> Area:
    left = place.x - {"start": 0.0, "end": size, "middle": size / 2}[place.anchor]
    return Area(left, place.y - 10, left + size, place.y + 3)


def _inside(place: Place, size: float, axes: Area) -> Place:
    """Move a place until its label is inside of the axes; its beginning if it is too wide for them."""
    box = _box(place, size)
    across = max(min(0.0, axes.right - box.right), axes.left - box.left)
    down = max(min(0.0, axes.bottom - box.bottom), axes.top - box.top)
    return replace(place, x=place.x + across, y=place.y + down)
