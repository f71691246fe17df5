"""Every random choice draws from a stream of its own, seeded by (seed, stream, step or item).

So a resumed run needs no saved generator, and the second job of a sweep equals a fresh process.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, stream: str, *path: int) -> int:
    """The seed of one draw: 63 bits that depend on every argument.

    Args:
        seed: the run's.
        stream: what is drawn, such as `augment`.
        path: where in the stream, such as epoch and position.
    """
    text = ":".join(map(str, (seed, stream, *path)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def numpy_generator(seed: int, stream: str, *path: int) -> np.random.Generator:
    """A NumPy generator of its own for one draw."""
    return np.random.default_rng(derive_seed(seed, stream, *path))


def seed_globals(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, which losses and miners of others draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # not torch.manual_seed: for each kind of device that is not there it formats the whole stack of calls, at every step
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def torch_stream(seed: int) -> Iterator[None]:
    """Within, the global CPU generators of torch, NumPy and Python are seeded; afterwards they are as before."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seed_globals(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@contextmanager
def crop_stream(seed: int) -> Iterator[None]:
    """As `torch_stream`, for torch's CPU generator alone: all that crops draw from, at a fraction of the cost."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
