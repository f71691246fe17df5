"""Which images stand in which batch; pure functions of (labels, seed, epoch), so a resumed run needs no state.

A sampler is called once an epoch and returns its batches: int64 `(steps, batch_size)`, positions in `labels`.
"""

from __future__ import annotations

import numpy as np

from dmlbench.errors import UserError


def m_per_class(labels: np.ndarray, batch_size: int, generator: np.random.Generator, samples_per_class: int) -> np.ndarray:
    """Class-balanced batches of `batch_size / samples_per_class` different classes.

    Classes are dealt from shuffled decks, so that each comes equally often; so are a class's images. A class with fewer
    than `samples_per_class` images repeats some within a batch (each repetition gets a crop of its own).

    Args:
        labels: int64 `(N,)`.
        batch_size: B, a multiple of `samples_per_class`.
        generator: draws the order.
        samples_per_class: m, images of a class in a batch.

    Returns:
        int64 `(max(N // B, 1), B)`: about one pass over the images.

    Raises:
        UserError: B is no multiple of m, or there are fewer classes than a batch needs.
    """
    if samples_per_class < 1:
        raise UserError(f"samples_per_class is {samples_per_class}; a batch needs at least one image of each of its classes")
    classes, indices = np.unique(labels, return_inverse=True)
    per_batch, rest = divmod(batch_size, samples_per_class)
    if rest:
        raise UserError(
            f"protocol.batch_size is {batch_size}, no multiple of samples_per_class {samples_per_class}; "
            f"use {batch_size - rest} or {batch_size - rest + samples_per_class}"
        )
    if per_batch > len(classes):
        raise UserError(
            f"a batch of {batch_size} with {samples_per_class} images a class needs {per_batch} classes, but the training "
            f"split has {len(classes)}; use protocol.batch_size={len(classes) * samples_per_class} or less, "
            "or a larger loss.samples_per_class"
        )
    steps = max(len(labels) // batch_size, 1)
    chosen = _dealt_rounds(len(classes), per_batch, steps, generator)
    decks = [_Deck(np.flatnonzero(indices == label), generator) for label in range(len(classes))]
    return np.stack([np.concatenate([decks[label].draw(samples_per_class) for label in row]) for row in chosen])


def by_kind(
    labels: np.ndarray, batch_size: int, generator: np.random.Generator, kind: str, pair: int, classification: int
) -> np.ndarray:
    """Class-balanced batches whose images a class depend on the kind of loss.

    Args:
        labels: int64 `(N,)`.
        batch_size: B, a multiple of the images a class.
        generator: draws the order.
        kind: the method's: `pair` or `classification`.
        pair: images a class in a batch for the first.
        classification: for the second.

    Returns:
        int64 `(max(N // B, 1), B)`.

    Source:
        Musgrave et al., ECCV 2020, arXiv:2003.08505: 8 classes x 4 and 32 x 1.
    """
    return m_per_class(labels, batch_size, generator, classification if kind == "classification" else pair)


def shuffle(labels: np.ndarray, batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """Every image once an epoch, in random order; the last, smaller batch is dropped.

    Args:
        labels: int64 `(N,)`.
        batch_size: B.
        generator: draws the order.

    Returns:
        int64 `(N // B, B)`.

    Raises:
        UserError: there are fewer images than one batch.
    """
    steps = len(labels) // batch_size
    if steps == 0:
        raise UserError(
            f"protocol.batch_size is {batch_size}, but there are only {len(labels)} training images; use at most {len(labels)}"
        )
    return generator.permutation(len(labels))[: steps * batch_size].reshape(steps, batch_size)


def _dealt_rounds(n: int, per_round: int, rounds: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Rounds of different numbers below n, dealt so that over all rounds each number comes equally often, give or take one."""
    dealt = np.zeros(n, dtype=np.int64)
    chosen = []
    for _ in range(rounds):
        # fewest times dealt first; among equals, at random
        row = np.lexsort((generator.random(n), dealt))[:per_round]
        dealt[row] += 1
        chosen.append(generator.permutation(row))
    return chosen


class _Deck:
    """A class's images, shuffled, dealt without repetition until the deck is empty, then shuffled again."""

    def __init__(self, cards: np.ndarray, generator: np.random.Generator) -> None:
        self.cards = cards
        self.generator = generator
        self.left = np.empty(0, dtype=np.int64)

    def draw(self, n: int) -> np.ndarray:
        """N images; different ones wherever the class has n."""
        hand = self.left[:n]
        self.left = self.left[n:]
        while len(hand) < n:
            fresh = self.generator.permutation(self.cards)
            # a new deck must not give again what this hand already holds, while it has others
            fresh = np.concatenate([fresh[~np.isin(fresh, hand)], fresh[np.isin(fresh, hand)]])
            hand, self.left = np.concatenate([hand, fresh[: n - len(hand)]]), fresh[n - len(hand) :]
        return hand
