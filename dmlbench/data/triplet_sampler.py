"""Triplets that are built before the network: one triplet of images per anchor, with random or hard negatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from dmlbench.config.requirements import images_of_triplets
from dmlbench.errors import UserError

MININGS = ("random", "hard", "semi_hard")
_VALUES_AT_ONCE = 2**23  # of embeddings of candidates; bounds the temporary memory

Sampler = TypeVar("Sampler", bound=Callable[..., Any])


def consecutive_triplets(sampler: Sampler) -> Sampler:
    """Mark a sampler whose batches consist of anchor, positive, negative, anchor, and so on.

    The loss then receives these triplets instead of those of the method's miner.

    Args:
        sampler: Function that returns the batches of an epoch.
    """
    sampler.yields_triplets = True  # type: ignore[attr-defined]
    return sampler


@dataclass
class TripletState:
    """What the sampler of triplets needs of a training, and keeps between epochs.

    Args:
        embed: Embeds the training images with the model as it is now: float32 `(N, D)`, L2-normalised, in the order of the
            labels.
        epoch: Index of the epoch, from 0.
        generator: Source of randomness for new triplets.
        triplets: Triplets in use, int64 `(N, 3)`; None before the first ones are drawn.
        drawn_in: Epoch in which they were drawn.
    """

    embed: Callable[[], np.ndarray]
    epoch: int
    generator: np.random.Generator
    triplets: np.ndarray | None = None
    drawn_in: int = 0


@consecutive_triplets
def triplets(
    labels: np.ndarray,
    batch_size: int,
    generator: np.random.Generator,
    mining: str = "random",
    hard_share: float = 0.5,
    candidates: int = 64,
    regenerate_every: int = 1,
    smaller_batch: bool = False,
    state: TripletState | None = None,
) -> np.ndarray:
    """Sample one triplet per image, which is its anchor, with a random positive and a random or hard negative.

    Hard negatives are searched among random images of other classes, with the embeddings of the model at the start of an epoch.
    `hard` takes the nearest one; `semi_hard` a random one of those that are nearer than the positive, or any if none is.

    Args:
        labels: int64 `(N,)`, class of each training image.
        batch_size: Images per batch B, a multiple of 3.
        generator: Source of randomness.
        mining: Negatives: `random`, `hard` or `semi_hard`.
        hard_share: Expected share of triplets with a mined negative; the others have a random one.
        candidates: Number of images of other classes among which the negative of an anchor is searched.
        regenerate_every: Epochs for which triplets are used, in a new order each, before all are drawn anew.
        smaller_batch: If B is not a multiple of 3, use the next smaller one instead of refusing B.
        state: State of a training; it receives the triplets. None draws new triplets with random negatives.

    Returns:
        int64 `(3N // B, B)`. Each row consists of anchor, positive, negative, anchor, and so on. No image is an anchor twice.

    Raises:
        UserError: An argument is out of range, a class has one image, or there are fewer images than one batch needs.
    """
    size = images_of_triplets(batch_size, smaller_batch)
    _check(mining, hard_share, candidates, regenerate_every)
    if state is None:
        drawn = draw_triplets(labels, generator)
    elif state.triplets is None or state.epoch - state.drawn_in >= regenerate_every:
        embeddings = None if mining == "random" else state.embed()
        drawn = draw_triplets(labels, state.generator, embeddings, mining, hard_share, candidates)
        state.triplets, state.drawn_in = drawn, state.epoch
    else:
        drawn = state.triplets
    steps = 3 * len(drawn) // size
    if steps == 0:
        raise UserError(
            f"protocol.batch_size is {batch_size}, but {len(labels)} training images, one anchor each, make only {len(labels)} "
            f"triplets; use at most {3 * len(labels)}"
        )
    order = generator.permutation(len(drawn))[: steps * size // 3]
    return drawn[order].reshape(steps, size)


def _check(mining: str, hard_share: float, candidates: int, regenerate_every: int) -> None:
    if mining not in MININGS:
        raise UserError(f"mining is {mining!r}; it must be {', '.join(MININGS[:-1])} or {MININGS[-1]}")
    if not 0 <= hard_share <= 1:
        raise UserError(f"hard_share is {hard_share}; it must be from 0 to 1")
    for name, value in (("candidates", candidates), ("regenerate_every", regenerate_every)):
        if not value >= 1:
            raise UserError(f"{name} is {value}; it must be at least 1")


def draw_triplets(
    labels: np.ndarray,
    generator: np.random.Generator,
    embeddings: np.ndarray | None = None,
    mining: str = "random",
    hard_share: float = 0.0,
    candidates: int = 1,
) -> np.ndarray:
    """Draw one triplet per image.

    Args:
        labels: int64 `(N,)`, class of each training image.
        generator: Source of randomness.
        embeddings: float32 `(N, D)`, L2-normalised; None for random negatives.
        mining: `random`, `hard` or `semi_hard`.
        hard_share: Expected share of triplets with a mined negative.
        candidates: Number of images of other classes among which the negative of an anchor is searched.

    Returns:
        int64 `(N, 3)`: anchor, positive and negative; row i has the anchor i.

    Raises:
        UserError: A class has one image, or there is one class.
    """
    classes = _Classes(labels)
    found = np.stack([np.arange(len(labels)), classes.positives(generator), classes.negatives(1, generator)[:, 0]], axis=1)
    if embeddings is None or mining == "random":
        return found
    for anchors in np.array_split(
        np.arange(len(labels)), len(labels) * candidates * embeddings.shape[1] // _VALUES_AT_ONCE + 1
    ):
        others = classes.negatives(candidates, generator, anchors)
        own = embeddings[anchors]
        similarity = np.einsum("nd,nkd->nk", own, embeddings[others])
        if mining == "hard":
            wanted = similarity == similarity.max(1, keepdims=True)
        else:
            wanted = similarity > np.einsum("nd,nd->n", own, embeddings[found[anchors, 1]])[:, None]
        mined = (generator.random(len(anchors)) < hard_share) & wanted.any(1)
        found[anchors[mined], 2] = others[mined, wanted[mined].argmax(1)]  # candidates are in random order
    return found


class _Classes:
    """Images of the same class and of other classes, by position in an order in which each class is contiguous."""

    def __init__(self, labels: np.ndarray) -> None:
        _, indices, counts = np.unique(labels, return_inverse=True, return_counts=True)
        single = int((counts == 1).sum())
        if single:
            raise UserError(
                f"{single} training class{'es have' if single > 1 else ' has'} one image, but an anchor needs a positive; use "
                "sampler=m_per_class with a method that builds no triplets before the network, or at least two images per class"
            )
        if len(counts) == 1:
            raise UserError("there is one training class, but an anchor needs a negative; use data with at least two classes")
        self.order = np.argsort(indices, kind="stable")
        self.start = (np.cumsum(counts) - counts)[indices]  # position of the first image of the class of each image
        self.count = counts[indices]
        self.position = np.empty(len(labels), dtype=np.int64)
        self.position[self.order] = np.arange(len(labels))

    def positives(self, generator: np.random.Generator) -> np.ndarray:
        """A random other image of the class of each image, int64 `(N,)`."""
        shift = generator.integers(1, self.count)
        return self.order[self.start + (self.position - self.start + shift) % self.count]

    def negatives(self, n: int, generator: np.random.Generator, anchors: np.ndarray | None = None) -> np.ndarray:
        """Random images of other classes for each anchor, with repetition, int64 `(A, n)`."""
        start, count = (one if anchors is None else one[anchors] for one in (self.start, self.count))
        drawn = generator.integers(0, (len(self.order) - count)[:, None], (len(start), n))
        return self.order[drawn + np.where(drawn >= start[:, None], count[:, None], 0)]
