"""Projection of embeddings onto their first two principal components. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dmlbench.pictures.saved_embeddings import SavedEmbeddings
from dmlbench.system.streams import numpy_generator


@dataclass(frozen=True, eq=False)
class Projection:
    """Embeddings of some classes in two dimensions.

    Args:
        points: float64 `(M, 2)`.
        labels: int64 `(M,)`, class of each point.
        ids: int64 `(M,)`, image of each point.
        explained: Shares of the variance of these embeddings that the two components explain.
        classes: Labels of the classes, ascending.
        n_classes: Number of classes from which they were drawn.
        n_left_out: Number of images of these classes that are not among the points because of the limit per class.
    """

    points: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    explained: tuple[float, float]
    classes: tuple[int, ...]
    n_classes: int
    n_left_out: int


def project(embeddings: SavedEmbeddings, classes: int, seed: int = 0, most_per_class: int = 200) -> Projection:
    """Draw some test classes, and project their images onto the first two principal components of these.

    Args:
        embeddings: Embeddings.
        classes: Number of classes, at least 1. Classes with at least two images are drawn first.
        seed: Seed of the choice of classes and, in large classes, of images.
        most_per_class: Largest number of images of one class.
    """
    used = embeddings.is_query | embeddings.is_gallery
    known, counts = np.unique(embeddings.labels[used], return_counts=True)
    order = numpy_generator(seed, "picture_classes").permutation(len(known))
    order = order[np.argsort(counts[order] < 2, kind="stable")]
    chosen = np.sort(known[order[:classes]])
    which, n_left_out = [], 0
    for label in chosen:
        members = np.flatnonzero(used & (embeddings.labels == label))
        drawn = numpy_generator(seed, "picture_points", int(label)).permutation(len(members))[:most_per_class]
        n_left_out += len(members) - len(drawn)
        which.append(members[np.sort(drawn)])
    index = np.concatenate(which)
    points, explained = principal_components(np.asarray(embeddings.rows[index]))
    return Projection(
        points=points,
        labels=embeddings.labels[index],
        ids=embeddings.ids[index],
        explained=explained,
        classes=tuple(map(int, chosen)),
        n_classes=len(known),
        n_left_out=n_left_out,
    )


def principal_components(rows: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Project rows onto the two directions of their largest variance.

    The component of a direction with the largest absolute value is positive, so that the same rows give the same picture.

    Args:
        rows: Numbers `(M, D)`, M and D at least 1.

    Returns:
        Coordinates, float64 `(M, 2)`, and the share of the variance that each explains; zeros if all rows are equal, or in the
        second coordinate if they vary along one direction only.

    >>> points, explained = principal_components(np.array([[0.0, 0.0, 5.0], [4.0, 0.0, 5.0], [2.0, 1.0, 5.0]]))
    >>> points.round(2).tolist(), [round(share, 3) for share in explained]
    ([[-2.0, -0.33], [2.0, -0.33], [0.0, 0.67]], [0.923, 0.077])
    """
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    if (rows == rows[0]).all():  # the mean is rounded, so that `centred` may differ from zero
        centred[:] = 0
    total = float((centred**2).sum())
    if not total:
        return np.zeros((len(rows), 2)), (0.0, 0.0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    points, explained = np.zeros((len(rows), 2)), [0.0, 0.0]
    for axis, (size, direction) in enumerate(zip(sizes[:2], directions[:2], strict=True)):
        explained[axis] = min(float(size**2) / total, 1.0)
        if explained[axis] > 1e-12:  # smaller ones are rounding errors
            sign = np.sign(direction[np.abs(direction).argmax()])
            points[:, axis] = centred @ (sign * direction)
    return points, (explained[0], explained[1])
