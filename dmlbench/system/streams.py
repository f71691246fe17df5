"""Names of independent random streams, as seeds. Imports no torch, so that commands that only read can draw too."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive_seed(seed: int, stream: str, *path: int) -> int:
    """Return the seed of one random choice: 63 bits that depend on every argument.

    Args:
        seed: Seed of the run.
        stream: Name of what is drawn, such as `augment`.
        path: Position in the stream, such as step and index in the batch.
    """
    text = ":".join(map(str, (seed, stream, *path)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def numpy_generator(seed: int, stream: str, *path: int) -> np.random.Generator:
    """Return the NumPy generator of one random choice.

    Args:
        seed: Seed of the run, or of the split.
        stream: Name of what is drawn.
        path: Position in the stream.
    """
    import numpy as np

    return np.random.default_rng(derive_seed(seed, stream, *path))
