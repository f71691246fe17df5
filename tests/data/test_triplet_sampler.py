"""Triplets that are built before the network: one per image, with random or hard negatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dmlbench.config.requirements import images_of_triplets
from dmlbench.data.triplet_sampler import TripletState, draw_triplets, triplets
from dmlbench.errors import UserError


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


LABELS = generator().permutation(np.repeat(np.arange(9), [2, 3, 4, 5, 6, 7, 8, 9, 10]))


def embeddings(seed: int = 0, scale: float = 0.5) -> np.ndarray:
    centres = generator(seed).normal(size=(9, 6))
    found = centres[LABELS] + scale * generator(seed + 1).normal(size=(len(LABELS), 6))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def state(epoch: int = 0, **changes: Any) -> TripletState:
    return TripletState(**{"embed": embeddings, "epoch": epoch, "generator": generator(100 + epoch), **changes})


@pytest.mark.parametrize("mining", ["random", "hard", "semi_hard"])
def test_every_image_is_the_anchor_of_one_triplet_with_another_image_of_its_class_and_one_of_another_class(mining: str) -> None:
    for seed in range(20):
        a, p, n = draw_triplets(LABELS, generator(seed), embeddings(), mining, 0.5, 8).T
        assert a.tolist() == list(range(len(LABELS)))
        assert (p != a).all()
        assert (LABELS[p] == LABELS[a]).all()
        assert (LABELS[n] != LABELS[a]).all()


def test_batches_consist_of_anchors_positives_and_negatives_and_use_each_anchor_at_most_once() -> None:
    batches = triplets(LABELS, 12, generator())
    assert batches.shape == (3 * len(LABELS) // 12, 12)
    a, p, n = batches.reshape(-1, 3).T
    assert len(np.unique(a)) == len(a) == 52
    assert (LABELS[p] == LABELS[a]).all()
    assert (LABELS[n] != LABELS[a]).all()
    assert a.tolist() != sorted(a)


def test_all_positives_and_all_negatives_occur_equally_often() -> None:
    drawn = np.concatenate([draw_triplets(LABELS, generator(seed)) for seed in range(800)])
    anchor = int(np.flatnonzero(LABELS == 8)[0])
    own = drawn[drawn[:, 0] == anchor]
    for column, possible in ((1, 9), (2, len(LABELS) - 10)):
        counts = np.bincount(own[:, column], minlength=len(LABELS))
        counts = counts[counts > 0]
        assert len(counts) == possible
        expected = 800 / possible
        assert ((counts - expected) ** 2 / expected).sum() < possible + 4 * np.sqrt(2 * possible)  # chi square


def test_a_hard_negative_is_the_nearest_candidate_and_half_of_the_negatives_are_random() -> None:
    x = embeddings()
    similarity = np.where(LABELS[:, None] == LABELS[None, :], -np.inf, x @ x.T)
    nearest = similarity.argmax(1)
    every = draw_triplets(LABELS, generator(), x, "hard", 1.0, 2000)
    assert np.array_equal(every[:, 2], nearest)
    half = np.mean([draw_triplets(LABELS, generator(seed), x, "hard", 0.5, 500)[:, 2] == nearest for seed in range(40)])
    assert 0.5 < half < 0.58  # a random negative may be the nearest
    few = draw_triplets(LABELS, generator(), x, "hard", 1.0, 2)
    assert 0 < np.mean(few[:, 2] == nearest) < 0.5


def test_a_semi_hard_negative_is_nearer_than_the_positive_if_any_candidate_is() -> None:
    x = embeddings(scale=2.0)
    a, p, n = draw_triplets(LABELS, generator(), x, "semi_hard", 1.0, 500).T
    near, far = (x[a] * x[p]).sum(1), (x[a] * x[n]).sum(1)
    possible = np.where(LABELS[:, None] == LABELS[None, :], -np.inf, x @ x.T).max(1) > near
    assert possible.any()
    assert not possible.all()
    assert np.array_equal(far > near, possible)
    hardest = draw_triplets(LABELS, generator(), x, "hard", 1.0, 500)[:, 2]
    assert (n[possible] != hardest[possible]).any()


def test_blocks_of_anchors_do_not_repeat_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmlbench.data.triplet_sampler._VALUES_AT_ONCE", 500)
    x = embeddings()
    every = draw_triplets(LABELS, generator(), x, "hard", 1.0, 2000)
    similarity = np.where(LABELS[:, None] == LABELS[None, :], -np.inf, x @ x.T)
    assert np.array_equal(every[:, 2], similarity.argmax(1))


# Over epochs


def test_triplets_are_drawn_anew_every_few_epochs_and_reordered_in_between() -> None:
    kept, found = state(), []
    for epoch in range(5):
        kept.epoch, kept.generator = epoch, generator(100 + epoch)
        batches = triplets(LABELS, 6, generator(epoch), mining="hard", regenerate_every=2, state=kept)
        found.append(batches.reshape(-1, 3))
    assert kept.drawn_in == 4
    as_sets = [set(map(tuple, one.tolist())) for one in found]
    assert as_sets[0] == as_sets[1] != as_sets[2] == as_sets[3] != as_sets[4]
    assert not np.array_equal(found[0], found[1])


def test_the_model_is_asked_for_embeddings_only_when_hard_triplets_are_drawn() -> None:
    asked = []

    def embed() -> np.ndarray:
        asked.append(True)
        return embeddings()

    triplets(LABELS, 6, generator(), mining="random", state=state(embed=embed))
    assert not asked
    kept = state(embed=embed)
    for _ in range(3):  # several passes in one epoch
        triplets(LABELS, 6, generator(), mining="semi_hard", state=kept)
    assert len(asked) == 1


def test_without_a_state_negatives_are_random_and_the_number_of_batches_is_the_same() -> None:
    assert triplets(LABELS, 9, generator(), mining="hard").shape == triplets(LABELS, 9, generator(), state=state()).shape


# Refusals


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (64, "^protocol.batch_size is 64, but batches of triplets need a multiple of 3; use 63 or 66$"),
        (2, "^protocol.batch_size is 2, but batches of triplets need a multiple of 3; use 3$"),
    ],
)
def test_a_batch_size_that_is_not_a_multiple_of_three_is_refused(size: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        triplets(LABELS, size, generator())


def test_a_method_may_ask_for_the_next_smaller_batch() -> None:
    assert triplets(LABELS, 14, generator(), smaller_batch=True).shape == (54 * 3 // 12, 12)
    assert images_of_triplets(63, smaller=True) == 63
    with pytest.raises(UserError, match="use 3"):
        images_of_triplets(2, smaller=True)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 0, 1, 2, 2], "^1 training class has one image, but an anchor needs a positive; use sampler=m_per_class"),
        ([0, 0, 1, 2, 3], "^3 training classes have one image, but an anchor needs a positive"),
        ([4, 4, 4], "^there is one training class, but an anchor needs a negative; use data with at least two classes$"),
        (
            [0, 0, 1, 1],
            "^protocol.batch_size is 15, but 4 training images, one anchor each, make only 4 triplets; use at most 12",
        ),
    ],
)
def test_images_that_do_not_suffice_are_refused(labels: list[int], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        triplets(np.array(labels), 15, generator())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mining": "hardest"}, "^mining is 'hardest'; it must be random, hard or semi_hard$"),
        ({"hard_share": 1.5}, "^hard_share is 1.5; it must be from 0 to 1$"),
        ({"candidates": 0}, "^candidates is 0; it must be at least 1$"),
        ({"regenerate_every": 0}, "^regenerate_every is 0; it must be at least 1$"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        triplets(LABELS, 6, generator(), **arguments)
