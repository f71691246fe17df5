"""Transformations of embeddings before the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from dmlbench.errors import UserError
from dmlbench.evaluation.embedding_files import Embeddings
from dmlbench.evaluation.evaluator import EvaluationConfig, evaluate, processed
from dmlbench.evaluation.postprocess import beta_normalize, euclidean_vectors, unit_vectors, whiten


def random_embeddings(n: int, seed: int = 0, dim: int = 6) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, dim + 1) + 2


def test_whitening_equals_that_of_scikit_learn_up_to_signs():
    training, rows = random_embeddings(50), random_embeddings(20, seed=1)
    expected = PCA(4, whiten=True).fit(training.double().numpy()).transform(rows.double().numpy())
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = whiten(rows, training, 4).numpy()
    assert np.abs(found) == pytest.approx(np.abs(expected), abs=1e-5)
    assert found @ found.T == pytest.approx(expected @ expected.T, abs=1e-5)


def test_whitening_does_not_depend_on_evaluated_items():
    training, rows = random_embeddings(50), random_embeddings(20, seed=1)
    labels, ids = torch.arange(70) % 5, torch.arange(70)
    is_evaluated = ids >= 50
    items = Embeddings(torch.cat([training, rows]), labels, ids, is_evaluated, is_evaluated)
    once = processed(items, EvaluationConfig(ks=(1,), whiten=3)).rows
    other = Embeddings(torch.cat([training, rows[:10], 9 * rows[10:]]), labels, ids, is_evaluated, is_evaluated)
    assert torch.equal(processed(other, EvaluationConfig(ks=(1,), whiten=3)).rows[:10], once[:10])


def test_whitening_without_training_items_is_refused():
    all_items = torch.ones(20, dtype=torch.bool)
    with pytest.raises(UserError, match="whiten=3 needs training embeddings, but there are none"):
        evaluate(
            Embeddings(random_embeddings(20), torch.arange(20) % 4, torch.arange(20), all_items, all_items),
            EvaluationConfig(ks=(1,), whiten=3),
        )


def test_whitening_to_more_dimensions_than_the_training_items_span_is_refused():
    with pytest.raises(UserError, match="whiten=6 is not possible with 5 training embeddings of 6 dimensions; use from 1 to 4"):
        whiten(random_embeddings(20), random_embeddings(5), 6)
    with pytest.raises(UserError, match="spread in 1 directions only"):
        whiten(random_embeddings(20), torch.arange(30.0)[:, None] * torch.ones(1, 6), 3)


def test_beta_normalisation_adds_the_scaled_embedding_to_the_unit_vector():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.allclose(beta_normalize(rows, 0.5), torch.tensor([[0.6 + 1.5, 0.8 + 2.0], [0.0, 0.0]]))


def test_unit_vectors_have_length_one_and_a_zero_vector_stays_zero():
    assert torch.allclose(unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e19, 1e36])
def test_inner_products_of_euclidean_vectors_order_the_gallery_as_euclidean_distances_do(scale: float):
    queries, gallery = random_embeddings(10) * scale, random_embeddings(40, seed=1) * scale
    q, g = euclidean_vectors(queries, gallery)
    nearest = torch.cdist(queries.double() / scale, gallery.double() / scale).argsort(1)
    assert torch.equal((q.double() @ g.double().T).argsort(1, descending=True), nearest)
