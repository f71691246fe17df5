"""Random streams: seeds never change between versions, and a block leaves the global generators as they were."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch

from dmlbench.system.seeding import crop_stream, derive_seed, numpy_generator, seed_globals, torch_stream


def test_derived_seeds_never_change_because_results_depend_on_them() -> None:
    assert derive_seed(0, "augment", 1, 2) == 7070800973658924352
    assert int(numpy_generator(0, "data order", 3).integers(2**32)) == 3939707982


def test_a_derived_seed_depends_on_every_argument_and_has_63_bits() -> None:
    seeds = [derive_seed(0, "a"), derive_seed(1, "a"), derive_seed(0, "b"), derive_seed(0, "a", 1), derive_seed(0, "a", 1, 2)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def draw() -> list[float]:
    """One number of each global generator."""
    return [torch.rand(1).item(), float(np.random.rand()), random.random()]


def test_seeding_the_global_generators_repeats_their_draws_also_for_seeds_above_32_bits() -> None:
    draws = []
    for seed in (2**40, 2**40, 2**40 + 1):
        seed_globals(seed)
        draws.append(draw())
    assert draws[0] == draws[1]
    assert all(one != other for one, other in zip(draws[0], draws[2], strict=True))


@pytest.mark.parametrize("stream", [torch_stream, crop_stream])
def test_a_stream_repeats_its_draws_and_restores_the_global_generators(
    stream: Callable[[int], AbstractContextManager[None]],
) -> None:
    seed_globals(3)
    expected = [*draw(), *draw()]
    seed_globals(3)
    before, within = draw(), []
    for _ in range(2):
        with stream(7):
            within.append(torch.rand(3).tolist())
    assert within[0] == within[1]
    assert [*before, *draw()] == expected


def test_a_stream_restores_the_global_generators_after_an_error() -> None:
    seed_globals(3)
    expected = draw()
    seed_globals(3)

    def draw_and_fail(stream: Callable[[int], AbstractContextManager[None]]) -> None:
        with stream(7):
            draw() if stream is torch_stream else torch.rand(1)
            raise ValueError("stop")

    for stream in (torch_stream, crop_stream):
        with pytest.raises(ValueError, match="stop"):
            draw_and_fail(stream)
    assert draw() == expected
