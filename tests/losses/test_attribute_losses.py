"""Losses with attributes: gradients of the predictions, missing annotations, extreme values, chosen pairs, large batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from loss_formulas import annotated_cosine, cosine, cross_entropy, deviance, sigmoid
from torch.nn.functional import normalize

from dmlbench.losses.attribute_similarity import annotated_similarity, predicted_similarity
from dmlbench.losses.binomial_deviance import BinomialDevianceLoss, SoftBinomialDevianceLoss
from dmlbench.losses.objective import Objective
from dmlbench.losses.semantic_granularity import AttributeLoss, SemanticGranularityLoss, attribute_cross_entropy

NAN = float("nan")
LABELS = {"random": [0, 0, 1, 1, 1, 2, 3, 3], "one class": [0] * 6, "no positives": list(range(6))}


def batch(labels: list[int], n_attributes: int = 4, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Embeddings, labels, logits and attributes with missing values, in float64."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = normalize(torch.randn(len(labels), 5, generator=generator, dtype=torch.float64))
    logits = 2 * torch.randn(len(labels), n_attributes, generator=generator, dtype=torch.float64)
    attributes = (torch.rand(len(labels), n_attributes, generator=generator, dtype=torch.float64) < 0.5).double()
    attributes[torch.rand(len(labels), n_attributes, generator=generator) < 0.25] = NAN
    return embeddings.requires_grad_(), torch.tensor(labels), logits.requires_grad_(), attributes


def predicted_cosine(logits: np.ndarray) -> Callable[[int, int], float]:
    probabilities = sigmoid(logits)
    return lambda i, j: cosine(probabilities[i], probabilities[j])


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize(
    ("linked", "detach", "weight"), [(True, False, 0.7), (True, True, 0.7), (False, False, 3.0), (True, False, 0.0)]
)
def test_the_gradient_of_the_predictions_equals_the_derivative_of_the_formula(
    kind: str, linked: bool, detach: bool, weight: float
) -> None:
    embeddings, labels, logits, attributes = batch(LABELS[kind])
    loss = SemanticGranularityLoss(3.0, 0.1, weight, linked, detach)(embeddings, labels, logits=logits, attributes=attributes)
    loss.backward()
    x, y, z, a = embeddings.detach().numpy(), labels.numpy(), logits.detach().numpy(), attributes.numpy()

    def formula(predicted: np.ndarray) -> float:
        granularity = predicted_cosine(z if detach else predicted) if linked else (lambda i, j: 0.0)
        return deviance(x, y, granularity, 3.0, 0.1) + weight * cross_entropy(predicted, a)

    assert loss.item() == pytest.approx(formula(z), rel=1e-12)
    direction, h = np.random.default_rng(0).normal(size=z.shape), 1e-6
    expected = (formula(z + h * direction) - formula(z - h * direction)) / (2 * h)
    assert logits.grad is not None
    assert float((logits.grad.numpy() * direction).sum()) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_cross_entropy_is_the_mean_over_known_attributes_and_the_rest_has_no_gradient() -> None:
    embeddings, labels, logits, attributes = batch(LABELS["random"])
    loss = Objective(AttributeLoss())(embeddings, labels, attributes, logits)
    loss.backward()
    assert loss.item() == pytest.approx(cross_entropy(logits.detach().numpy(), attributes.numpy()), rel=1e-12)
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, attributes.isnan())
    assert embeddings.grad is None


def test_a_batch_without_any_known_attribute_has_a_cross_entropy_and_a_gradient_of_zero() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = attribute_cross_entropy(logits, torch.full((4, 3), NAN))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("shift", [0.0, -30.0, -2000.0, 2000.0])
def test_the_similarity_of_predictions_is_right_where_their_probabilities_vanish(shift: float) -> None:
    logits = torch.tensor([[1.0, 0.0, -2.0], [0.0, 3.0, 1.0], [2.0, 2.0, 2.0]]) + shift
    logits.requires_grad_()
    found = predicted_similarity(logits)
    found.sum().backward()
    z = logits.detach().double().numpy()
    logarithms = -np.logaddexp(0, -z)
    scaled = np.exp(logarithms - logarithms.max(1, keepdims=True))  # the cosine does not depend on the scale
    expected = [[cosine(a, b) for b in scaled] for a in scaled]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-6)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_annotated_attributes_are_compared_where_both_are_known() -> None:
    attributes = torch.tensor([[1, 1, 0, NAN], [1, NAN, 1, 1], [0, 0, 0, 0], [NAN, NAN, NAN, NAN], [1, 1, 0, 1]])
    found = annotated_similarity(attributes.double()).numpy()
    rows = attributes.double().numpy()
    expected = [[annotated_cosine(a, b) for b in rows] for a in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[0].tolist() == pytest.approx([1, 0.5**0.5, 0, 0, 1])


TRIPLETS = (torch.tensor([0, 2, 2]), torch.tensor([1, 3, 4]), torch.tensor([5, 0, 0]))
PAIRS = (torch.tensor([0]), torch.tensor([1]), torch.tensor([2, 5]), torch.tensor([7, 1]))


@pytest.mark.parametrize(
    ("indices", "chosen"),
    [
        (TRIPLETS, ([(0, 1), (2, 3), (2, 4)], [(0, 5), (2, 0), (2, 0)])),
        (PAIRS, ([(0, 1)], [(2, 7), (5, 1)])),
        (tuple(one[:0] for one in TRIPLETS), ([], [])),
    ],
    ids=["triplets", "pairs", "none"],
)
def test_a_loss_uses_the_triplets_or_pairs_that_it_is_given_and_no_others(indices: Any, chosen: Any) -> None:
    embeddings, labels, logits, attributes = batch(LABELS["random"])
    x, y, a = embeddings.detach().numpy(), labels.numpy(), attributes.numpy()
    plain = BinomialDevianceLoss(3.0, 0.1)(embeddings, labels, indices)
    soft = SoftBinomialDevianceLoss(3.0, 0.1)(embeddings, labels, indices, attributes=attributes)
    full = SemanticGranularityLoss(3.0, 0.1, 0.0)(embeddings, labels, indices, logits=logits, attributes=attributes)
    annotated = lambda i, j: annotated_cosine(a[i], a[j])  # noqa: E731
    expected = [lambda i, j: 0.0, annotated, predicted_cosine(logits.detach().numpy())]
    for found, granularity in zip((plain, soft, full), expected, strict=True):
        assert found.item() == pytest.approx(deviance(x, y, granularity, 3.0, 0.1, chosen), rel=1e-12)
    (plain + soft + full).backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("alpha", [1e4, 1e30])
def test_a_steep_loss_does_not_overflow(alpha: float) -> None:
    embeddings, labels, logits, attributes = (
        one.float() if one.is_floating_point() else one for one in batch(LABELS["random"])
    )
    embeddings = embeddings.detach().requires_grad_()
    loss = SemanticGranularityLoss(alpha, 0.1)(embeddings, labels, logits=1000 * logits, attributes=attributes)
    loss.backward()
    assert torch.isfinite(loss)
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def test_a_large_batch_has_the_value_and_gradient_of_the_formula() -> None:
    labels = [i % 64 for i in range(512)]
    embeddings, y, logits, attributes = batch(labels, n_attributes=20)
    loss = SemanticGranularityLoss(2.0, 0.5, 1.0)(embeddings, y, logits=logits, attributes=attributes)
    loss.backward()
    x, probabilities = embeddings.detach().numpy(), sigmoid(logits.detach().numpy())
    unit = probabilities / np.linalg.norm(probabilities, axis=1, keepdims=True)
    s, g, same = x @ x.T, unit @ unit.T, y.numpy()[:, None] == y.numpy()
    near, far = same & ~np.eye(512, dtype=bool), ~same
    value = np.logaddexp(0, -2 * (s + g - 0.5))[near].mean() + np.logaddexp(0, 2 * (s - g - 0.5))[far].mean()
    assert loss.item() == pytest.approx(value + cross_entropy(logits.detach().numpy(), attributes.numpy()), rel=1e-10)
    slope = -2 * sigmoid(-2 * (s + g - 0.5)) * near / near.sum() + 2 * sigmoid(2 * (s - g - 0.5)) * far / far.sum()
    assert embeddings.grad is not None
    np.testing.assert_allclose(embeddings.grad.numpy(), 2 * slope @ x, rtol=1e-8, atol=1e-14)
