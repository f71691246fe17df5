"""Batch samplers: pure functions that choose the images of every batch of one epoch, so a resumed run needs no state.

The trainer calls a sampler once per epoch, with a generator seeded by run and epoch. It returns the batches as an int64
array `(steps, batch_size)` of indices into `labels`.
"""

from __future__ import annotations

import numpy as np

from dmlbench.config.requirements import require_whole_classes
from dmlbench.errors import UserError


def m_per_class(labels: np.ndarray, batch_size: int, generator: np.random.Generator, samples_per_class: int) -> np.ndarray:
    """Sample class-balanced batches of `batch_size / samples_per_class` different classes.

    Over an epoch, every class is sampled equally often (within one), and so is every image of a class. If a class has fewer
    than `samples_per_class` images, some of them repeat within a batch; each repetition is cropped independently.

    Args:
        labels: int64 `(N,)`, class of each training image.
        batch_size: Images per batch B, a multiple of `samples_per_class`.
        generator: Source of randomness.
        samples_per_class: Images per class in a batch.

    Returns:
        int64 `(max(N // B, 1), B)`: about one pass over the images.

    Raises:
        UserError: B is not a multiple of `samples_per_class`, or there are fewer classes than a batch needs.
    """
    if samples_per_class < 1:
        raise UserError(f"samples_per_class is {samples_per_class}; a batch needs at least one image of each of its classes")
    classes, indices = np.unique(labels, return_inverse=True)
    require_whole_classes(batch_size, samples_per_class)
    classes_per_batch = batch_size // samples_per_class
    if classes_per_batch > len(classes):
        raise UserError(
            f"a batch of {batch_size} with {samples_per_class} images per class needs {classes_per_batch} classes, but the "
            f"training split has {len(classes)}; use protocol.batch_size={len(classes) * samples_per_class} or less, "
            "or a larger loss.samples_per_class"
        )
    steps = max(len(labels) // batch_size, 1)
    sampled_classes = _sample_classes(len(classes), classes_per_batch, steps, generator)
    pools = [_ImagePool(np.flatnonzero(indices == label), generator) for label in range(len(classes))]
    return np.stack([np.concatenate([pools[label].draw(samples_per_class) for label in row]) for row in sampled_classes])


def by_kind(
    labels: np.ndarray, batch_size: int, generator: np.random.Generator, kind: str, pair: int, classification: int
) -> np.ndarray:
    """Sample class-balanced batches with a number of images per class that depends on the kind of loss.

    Args:
        labels: int64 `(N,)`, class of each training image.
        batch_size: Images per batch B, a multiple of the images per class.
        generator: Source of randomness.
        kind: Kind of the loss: `pair` or `classification`.
        pair: Images per class in a batch for pair losses.
        classification: Images per class in a batch for classification losses.

    Returns:
        int64 `(max(N // B, 1), B)`.

    Source:
        Musgrave et al., ECCV 2020, arXiv:2003.08505: 8 classes x 4 images and 32 classes x 1 image.
    """
    return m_per_class(labels, batch_size, generator, classification if kind == "classification" else pair)


def shuffle(labels: np.ndarray, batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """Sample every image at most once per epoch, in random order. The last, incomplete batch is dropped.

    Args:
        labels: int64 `(N,)`, class of each training image.
        batch_size: Images per batch B.
        generator: Source of randomness.

    Returns:
        int64 `(N // B, B)`.

    Raises:
        UserError: There are fewer images than one batch needs.
    """
    steps = len(labels) // batch_size
    if steps == 0:
        raise UserError(
            f"protocol.batch_size is {batch_size}, but there are only {len(labels)} training images; use at most {len(labels)}"
        )
    return generator.permutation(len(labels))[: steps * batch_size].reshape(steps, batch_size)


def _sample_classes(n: int, per_batch: int, steps: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Sample different classes for each batch, such that over all batches each of the n classes is equally frequent (±1)."""
    counts = np.zeros(n, dtype=np.int64)
    batches = []
    for _ in range(steps):
        # The least frequent classes first; ties are broken at random.
        batch = np.lexsort((generator.random(n), counts))[:per_batch]
        counts[batch] += 1
        batches.append(generator.permutation(batch))
    return batches


class _ImagePool:
    """The images of one class, drawn in random order without repetition until all were drawn, then in a new random order."""

    def __init__(self, images: np.ndarray, generator: np.random.Generator) -> None:
        self.images = images
        self.generator = generator
        self.remaining = np.empty(0, dtype=np.int64)

    def draw(self, n: int) -> np.ndarray:
        """Draw n images, which differ from each other if the class has at least n."""
        drawn = self.remaining[:n]
        self.remaining = self.remaining[n:]
        while len(drawn) < n:
            order = self.generator.permutation(self.images)
            # Images that this draw already contains come last, so that they repeat only if there are no others.
            order = np.concatenate([order[~np.isin(order, drawn)], order[np.isin(order, drawn)]])
            drawn, self.remaining = np.concatenate([drawn, order[: n - len(drawn)]]), order[n - len(drawn) :]
        return drawn
