"""What is done to embeddings before the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from dmlbench.errors import UserError
from dmlbench.evaluation.embedding_files import Embeddings
from dmlbench.evaluation.evaluator import Judging, judge, processed
from dmlbench.evaluation.postprocess import beta_normalize, euclidean_vectors, unit_vectors, whiten


def some(n: int, seed: int = 0, dim: int = 6) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, dim + 1) + 2


def test_whitening_is_scikit_learns_up_to_signs():
    training, rows = some(50), some(20, seed=1)
    peer = PCA(4, whiten=True).fit(training.double().numpy()).transform(rows.double().numpy())
    peer /= np.linalg.norm(peer, axis=1, keepdims=True)
    ours = whiten(rows, training, 4).numpy()
    assert np.abs(ours) == pytest.approx(np.abs(peer), abs=1e-5)
    assert ours @ ours.T == pytest.approx(peer @ peer.T, abs=1e-5)


def test_whitening_never_sees_what_is_judged():
    training, rows = some(50), some(20, seed=1)
    labels, ids = torch.arange(70) % 5, torch.arange(70)
    judged = ids >= 50
    items = Embeddings(torch.cat([training, rows]), labels, ids, judged, judged)
    once = processed(items, Judging(ks=(1,), whiten=3)).rows
    other = Embeddings(torch.cat([training, rows[:10], 9 * rows[10:]]), labels, ids, judged, judged)
    assert torch.equal(processed(other, Judging(ks=(1,), whiten=3)).rows[:10], once[:10])


def test_without_training_rows_whitening_is_refused():
    everyone = torch.ones(20, dtype=torch.bool)
    with pytest.raises(UserError, match="fitted on training embeddings, and there are none"):
        judge(Embeddings(some(20), torch.arange(20) % 4, torch.arange(20), everyone, everyone), Judging(ks=(1,), whiten=3))


def test_more_directions_than_the_training_rows_have_are_refused():
    with pytest.raises(UserError, match="allow from 1 to 4"):
        whiten(some(20), some(5), 6)
    with pytest.raises(UserError, match="spread in 1 directions only"):
        whiten(some(20), torch.arange(30.0)[:, None] * torch.ones(1, 6), 3)


def test_beta_normalisation_adds_the_embedding_to_its_direction():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.allclose(beta_normalize(rows, 0.5), torch.tensor([[0.6 + 1.5, 0.8 + 2.0], [0.0, 0.0]]))


def test_cosine_gives_unit_length_and_leaves_a_zero():
    assert torch.allclose(unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e19, 1e36])
def test_the_inner_product_of_lifted_vectors_orders_as_euclidean_distance_does(scale: float):
    queries, gallery = some(10) * scale, some(40, seed=1) * scale
    q, g = euclidean_vectors(queries, gallery)
    nearest = torch.cdist(queries.double() / scale, gallery.double() / scale).argsort(1)
    assert torch.equal((q.double() @ g.double().T).argsort(1, descending=True), nearest)
