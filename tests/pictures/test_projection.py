"""Projection of embeddings: principal components, and the choice of classes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from dmlbench.pictures.projection import principal_components, project
from dmlbench.pictures.saved_embeddings import SavedEmbeddings


def embeddings(labels: np.ndarray, dim: int = 6, is_query: np.ndarray | None = None) -> SavedEmbeddings:
    n = len(labels)
    rows = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    used = np.ones(n, dtype=bool) if is_query is None else is_query
    return SavedEmbeddings(rows, labels.astype(np.int64), np.arange(n) + 100, used, used)


@pytest.mark.parametrize("shape", [(40, 6), (5, 30), (3, 2)])
def test_coordinates_and_shares_equal_those_of_scikit_learn_up_to_the_sign(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    points, explained = principal_components(rows)
    expected = PCA(2).fit(rows.astype(np.float64))
    np.testing.assert_allclose(np.abs(points), np.abs(expected.transform(rows.astype(np.float64))), atol=1e-9)
    np.testing.assert_allclose(explained, expected.explained_variance_ratio_, atol=1e-12)


def test_the_order_of_the_rows_does_not_mirror_the_picture() -> None:
    rows = np.random.default_rng(2).normal(size=(30, 5))
    order = np.random.default_rng(3).permutation(30)
    np.testing.assert_allclose(principal_components(rows)[0][order], principal_components(rows[order])[0], atol=1e-9)


@pytest.mark.parametrize("rows", [np.full((4, 3), 0.1, dtype=np.float32), np.ones((1, 1))], ids=["equal rows", "one row"])
def test_rows_without_variance_are_projected_to_the_origin(rows: np.ndarray) -> None:
    points, explained = principal_components(rows)
    assert not points.any()
    assert explained == (0.0, 0.0)


def test_rows_on_a_line_have_no_second_component() -> None:
    points, explained = principal_components(np.arange(4.0)[:, None] * [1.0, 2.0, 2.0])
    np.testing.assert_allclose(points, [[-4.5, 0], [-1.5, 0], [1.5, 0], [4.5, 0]], atol=1e-9)
    assert explained == (pytest.approx(1.0), pytest.approx(0.0))
    assert not principal_components(np.arange(4.0)[:, None])[0][:, 1].any()


def test_classes_are_drawn_by_the_seed_and_all_of_their_images_are_projected() -> None:
    of = embeddings(np.repeat(np.arange(20), 5))
    found = project(of, 3, seed=1)
    assert found.classes == project(of, 3, seed=1).classes
    assert len({project(of, 3, seed=seed).classes for seed in range(5)}) > 1
    assert len(found.points) == 15
    assert set(found.labels.tolist()) == set(found.classes)
    assert (found.ids - 100).tolist() == np.flatnonzero(np.isin(of.labels, found.classes)).tolist()
    assert (found.n_classes, found.n_left_out) == (20, 0)


def test_classes_with_one_image_are_drawn_last() -> None:
    of = embeddings(np.concatenate([np.arange(10), [10, 10], [11, 11]]))
    assert project(of, 2).classes == (10, 11)
    assert len(project(of, 12).classes) == 12


def test_large_classes_are_limited_and_training_images_are_left_out() -> None:
    labels = np.repeat([0, 1], [30, 4])
    found = project(embeddings(labels), 2, most_per_class=10)
    assert (len(found.points), found.n_left_out) == (14, 20)
    tested = np.arange(34) >= 30
    assert project(embeddings(labels, is_query=tested), 2).classes == (1,)
