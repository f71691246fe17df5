"""Samplers: which images each batch of an epoch contains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmlbench.data.samplers import by_kind, m_per_class, shuffle
from dmlbench.errors import UserError


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=6, max_size=20), st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_every_batch_has_m_images_of_each_of_its_classes(sizes: list[int], m: int, per_batch: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    batches = m_per_class(labels, m * per_batch, generator(seed), m)
    assert batches.shape == (max(len(labels) // (m * per_batch), 1), m * per_batch)
    for batch in batches:
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(classes) == per_batch
        assert set(counts) == {m}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=9), st.integers(1, 4), st.integers(0, 99))
def test_an_image_repeats_within_a_batch_only_if_its_class_has_too_few(sizes: list[int], m: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    for batch in m_per_class(labels, m * 3, generator(seed), m):
        for label in np.unique(labels[batch]):
            drawn = batch[labels[batch] == label]
            assert len(np.unique(drawn)) == min(m, sizes[label])


def test_over_an_epoch_all_classes_are_equally_frequent_within_one() -> None:
    labels = np.repeat(np.arange(50), 24)
    drawn = np.concatenate(m_per_class(labels, 64, generator(), 4))
    counts = np.bincount(labels[drawn]) / 4
    assert counts.max() - counts.min() <= 1


def test_no_image_of_a_class_repeats_before_all_its_images_were_sampled() -> None:
    labels = np.repeat(np.arange(4), 10)
    drawn = np.concatenate(m_per_class(labels, 8, generator(), 2))
    assert np.bincount(drawn, minlength=40).max() == 1


def test_fewer_classes_than_a_batch_needs_are_refused_with_what_to_do() -> None:
    labels = np.repeat(np.arange(10), 8)
    with pytest.raises(UserError, match=r"needs 16 classes, but the training split has 10; use protocol.batch_size=40"):
        m_per_class(labels, 64, generator(), 4)


def test_a_batch_size_that_is_not_a_multiple_of_m_is_refused_with_the_next_sizes() -> None:
    with pytest.raises(UserError, match="which is not a multiple of samples_per_class 4; use 60 or 64"):
        m_per_class(np.repeat(np.arange(20), 8), 62, generator(), 4)


def test_shuffle_samples_every_image_at_most_once_and_drops_less_than_a_batch() -> None:
    drawn = shuffle(np.zeros(103, dtype=np.int64), 10, generator())
    assert drawn.shape == (10, 10)
    assert len(np.unique(drawn)) == 100


def test_shuffle_refuses_a_batch_larger_than_the_training_set() -> None:
    with pytest.raises(UserError, match=r"protocol\.batch_size is 10, but there are only 7 training images"):
        shuffle(np.zeros(7, dtype=np.int64), 10, generator())


@pytest.mark.parametrize("sampler", [lambda *a: m_per_class(*a, 4), shuffle])
def test_the_batches_of_an_epoch_depend_only_on_the_generator(sampler: object) -> None:
    labels = np.repeat(np.arange(20), 8)
    first, again, other = (sampler(labels, 16, generator(seed)) for seed in (1, 1, 2))  # type: ignore[operator]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_by_kind_chooses_the_images_per_class_by_the_kind_of_loss() -> None:
    labels = np.repeat(np.arange(40), 5)
    for kind, classes in (("pair", 8), ("classification", 32)):
        for batch in by_kind(labels, 32, np.random.default_rng(0), kind, pair=4, classification=1):
            assert len(set(labels[batch])) == classes


def test_zero_images_per_class_are_refused() -> None:
    with pytest.raises(UserError, match="samples_per_class is 0; a batch needs at least one image"):
        m_per_class(np.arange(4), 4, np.random.default_rng(0), samples_per_class=0)
