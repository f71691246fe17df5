"""The triplet loss in four forms equals its formulas and the library, without a list of all triplets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from loss_formulas import all_triplets
from pytorch_metric_learning import distances, losses
from pytorch_metric_learning.utils.loss_and_miner_utils import get_all_triplets_indices
from torch.nn.functional import normalize

from dmlbench.losses import triplet_sums
from dmlbench.losses.triplets import TripletLoss

FORMS = ("hinge", "hinge_squared", "ratio", "soft")
Result = tuple[torch.Tensor, torch.Tensor]


def batch(n: int = 24, per_class: int = 4, dim: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64) -> Result:
    """Embeddings in clusters, so that all kinds of triplets occur; not of unit length, so that normalisation counts."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) // per_class
    centres = torch.randn(n, dim, generator=generator, dtype=dtype)[labels]
    return 3 * (centres + torch.randn(n, dim, generator=generator, dtype=dtype)), labels


def value_and_gradient(loss: Callable[..., torch.Tensor], embeddings: torch.Tensor, *arguments: Any) -> Result:
    x = embeddings.clone().requires_grad_()
    value = loss(x, *arguments)
    value.backward()
    assert x.grad is not None
    return value.detach(), x.grad


def every_triplet(labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(get_all_triplets_indices(labels))


# All triplets of a batch


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("percentile", [None, 60, 25])
@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradient_equal_the_formula_with_local_positives_and_with_swapped_anchors(
    form: Any, percentile: float | None, swap: bool
) -> None:
    embeddings, labels = batch(18, 6)
    value, gradient = value_and_gradient(TripletLoss(form, positive_percentile=percentile, swap=swap), embeddings, labels)
    x, y, limit = embeddings.numpy(), labels.numpy(), 100 if percentile is None else percentile
    swapped = swap and form != "soft"  # which is symmetric
    assert value.item() == pytest.approx(all_triplets(form, x, y, x, limit, swapped), rel=1e-9)
    direction = np.random.default_rng(0).normal(size=x.shape)
    ahead, behind = (all_triplets(form, x + h * direction, y, x, limit, swapped) for h in (1e-6, -1e-6))
    assert float((gradient.numpy() * direction).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("average", ["non_zero", "all"])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_all_triplets_of_a_batch_equal_a_list_of_them(form: Any, swap: bool, average: Any) -> None:
    embeddings, labels = batch(30, 5)
    loss = TripletLoss(form, swap=swap, average=average)
    found = value_and_gradient(loss, embeddings, labels)
    listed = value_and_gradient(loss, embeddings, labels, every_triplet(labels))
    for one, other in zip(found, listed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("per_class", [4, 16])
@pytest.mark.parametrize("power", [1, 2])
def test_in_float32_a_large_batch_equals_pytorch_metric_learning_within_rounding(per_class: int, power: int) -> None:
    embeddings, labels = batch(160, per_class, 32, dtype=torch.float32)
    ours = TripletLoss("hinge_squared" if power == 2 else "hinge", margin=0.3)
    theirs = losses.TripletMarginLoss(margin=0.3, distance=distances.LpDistance(power=power))
    (value, gradient), (expected, other) = (value_and_gradient(loss, embeddings, labels) for loss in (ours, theirs))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_swapping_equals_pytorch_metric_learning() -> None:
    embeddings, labels = batch(40)
    ours, theirs = TripletLoss(swap=True), losses.TripletMarginLoss(margin=0.2, swap=True)
    for one, other in zip(*(value_and_gradient(loss, embeddings, labels) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_the_size_of_the_blocks_does_not_affect_the_result(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = batch()
    expected = value_and_gradient(TripletLoss(form, swap=True), embeddings, labels)
    monkeypatch.setattr(triplet_sums, "TRIPLETS_AT_ONCE", 1)
    found = value_and_gradient(TripletLoss(form, swap=True), embeddings, labels)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def test_the_ratio_of_the_paper_is_a_hyperbolic_tangent_of_half_the_difference() -> None:
    near, far = np.random.default_rng(0).uniform(0, 2, (2, 100))
    both = np.exp(near) + np.exp(far)
    np.testing.assert_allclose((np.exp(near) / both) ** 2 - (np.exp(far) / both) ** 2, np.tanh((near - far) / 2), atol=1e-15)


def test_the_margin_of_the_soft_form_does_not_affect_the_gradient() -> None:
    embeddings, labels = batch()
    (low, first), (high, second) = (value_and_gradient(TripletLoss("soft", margin), embeddings, labels) for margin in (0.2, 1))
    assert high.item() - low.item() == pytest.approx(0.8)
    torch.testing.assert_close(first, second)


def test_sixty_percent_of_fifteen_positives_are_the_nine_nearest() -> None:
    embeddings, labels = batch(32, 16)
    unit = normalize(embeddings)
    near = torch.cdist(unit, unit).masked_fill(torch.eye(32, dtype=torch.bool) | (labels[:, None] != labels), torch.inf)
    anchors, nearest = torch.arange(32).repeat_interleave(9), near.topk(9, largest=False).indices.flatten()
    chosen = {(int(a), int(p)) for a, p in zip(anchors, nearest, strict=True)}
    listed = [(a, p, n) for a, p, n in zip(*(part.tolist() for part in every_triplet(labels)), strict=True) if (a, p) in chosen]
    given = tuple(torch.tensor(part) for part in zip(*listed, strict=True))
    expected = TripletLoss()(embeddings, labels, given)
    assert TripletLoss(positive_percentile=60)(embeddings, labels).item() == pytest.approx(expected.item(), rel=1e-9)


# Degenerate batches


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_equal_embeddings_have_finite_gradients(form: Any, dtype: torch.dtype) -> None:
    """Images repeat within a batch if a class has few, and a collapsed embedding is a single point up to rounding."""
    embeddings, labels = batch(dtype=dtype)
    embeddings[1] = embeddings[0]
    embeddings[5] = embeddings[0]
    for x in (embeddings, embeddings[:1].repeat(24, 1), embeddings[:1] + 1e-7 * embeddings):
        for given in ((), (every_triplet(labels),)):
            for swap in (False, True):
                value, gradient = value_and_gradient(TripletLoss(form, swap=swap), x, labels, *given)
                assert torch.isfinite(value)
                assert torch.isfinite(gradient).all()
                assert gradient.abs().max() < 10


@pytest.mark.parametrize("labels", [[0] * 6, list(range(6))])
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_without_triplets_has_no_loss_and_a_zero_gradient(form: Any, labels: list[int]) -> None:
    embeddings, _ = batch(6)
    value, gradient = value_and_gradient(TripletLoss(form), embeddings, torch.tensor(labels))
    assert value == 0
    assert not gradient.any()


def test_a_class_with_one_image_has_only_negatives() -> None:
    embeddings, _ = batch(7)
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    listed = TripletLoss()(embeddings, labels, every_triplet(labels))
    assert TripletLoss()(embeddings, labels).item() == pytest.approx(listed.item(), rel=1e-10)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"form": "cubic"}, "^form is 'cubic'; it must be hinge, hinge_squared, ratio or soft$"),
        ({"average": "median"}, "^average is 'median'; it must be non_zero or all$"),
        ({"positive_percentile": 160}, "^positive_percentile is 160; it must be from 0 to 100, or null$"),
    ],
)
def test_an_unknown_value_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TripletLoss(**arguments)


def test_local_positives_of_given_triplets_are_refused() -> None:
    embeddings, labels = batch()
    with pytest.raises(ValueError, match=r"^positive_percentile is 60: local positives are .*, but triplets are given$"):
        TripletLoss(positive_percentile=60)(embeddings, labels, every_triplet(labels))


@pytest.mark.parametrize("form", ["hinge", "hinge_squared", "ratio", "soft"])
@pytest.mark.parametrize("percentile", [None, 60])
@pytest.mark.parametrize("swap", [False, True])
def test_embeddings_that_are_not_finite_give_a_loss_that_is_not_finite(form: Any, percentile: float | None, swap: bool) -> None:
    embeddings, labels = batch()
    embeddings[1] = torch.nan
    assert TripletLoss(form, positive_percentile=percentile, swap=swap)(embeddings, labels).isnan()
