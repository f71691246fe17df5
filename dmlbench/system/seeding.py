"""Independent random streams: each random choice is seeded by (seed, stream, step or item).

A resumed run therefore needs no saved generator state, and the second job of a sweep equals the same job in a new process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from dmlbench.system.streams import derive_seed, numpy_generator

__all__ = ["crop_stream", "derive_seed", "numpy_generator", "seed_globals", "torch_stream"]


def seed_globals(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, from which losses and miners of libraries draw.

    Args:
        seed: Non-negative seed. NumPy uses its lowest 32 bits.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed would format the whole call stack for each kind of device that is not present, at every step.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def torch_stream(seed: int) -> Iterator[None]:
    """Seed the global CPU generators of torch, NumPy and Python in a `with` block, and restore their states after it.

    Args:
        seed: Seed of the block.
    """
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
    """Seed only torch's global CPU generator in a `with` block, and restore its state after it.

    Random crops draw from no other generator, and this is much cheaper than `torch_stream`.

    Args:
        seed: Seed of the block.
    """
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
