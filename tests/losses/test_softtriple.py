"""SoftTriple equals the library's class, in memory proportional to the number of classes."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning import losses, regularizers
from torch.nn.functional import normalize

from dmlbench.losses import softtriple, softtriple_steps
from dmlbench.losses.softtriple import SoftTripleLoss


def random_batch(n_classes: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = normalize(torch.randn(12, dim, generator=generator, dtype=torch.float64))
    return embeddings.requires_grad_(), torch.arange(12) % n_classes


def by_hand(monkeypatch: pytest.MonkeyPatch, at_once: int = 256) -> None:
    """Compute as for many classes, some classes at a time."""
    monkeypatch.setattr(softtriple, "MOST_CLASSES", 0)
    monkeypatch.setattr(softtriple_steps, "CLASSES_AT_ONCE", at_once)


@pytest.mark.parametrize("at_once", [None, 1, 3, 256])  # None for the path of few classes
@pytest.mark.parametrize(("n_classes", "n_centres", "weight"), [(7, 10, 0.2), (5, 2, 0.5), (7, 10, 0.0)])
def test_value_and_gradient_equal_those_of_pytorch_metric_learning(
    monkeypatch: pytest.MonkeyPatch, at_once: int | None, n_classes: int, n_centres: int, weight: float
) -> None:
    if at_once is not None:
        by_hand(monkeypatch, at_once)
    regularizer = regularizers.SparseCentersRegularizer(n_classes, n_centres)
    torch.manual_seed(0)
    theirs = losses.SoftTripleLoss(
        n_classes, 6, n_centres, la=15, gamma=0.3, margin=0.05, weight_regularizer=regularizer, weight_reg_weight=weight
    ).double()
    torch.manual_seed(0)
    ours = SoftTripleLoss(n_classes, 6, n_centres, la=15, gamma=0.3, margin=0.05, weight_reg_weight=weight).double()
    assert torch.equal(ours.fc, theirs.fc)
    found = []
    for loss in (ours, theirs):
        embeddings, labels = random_batch(n_classes, 6)
        value = loss(embeddings, labels)
        value.backward()
        found.append((value.detach(), embeddings.grad, loss.fc.grad))
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


def test_in_float32_the_value_is_bit_equal_to_that_of_pytorch_metric_learning() -> None:
    torch.manual_seed(0)
    theirs = losses.SoftTripleLoss(
        50, 32, 10, weight_regularizer=regularizers.SparseCentersRegularizer(50, 10), weight_reg_weight=0.2
    )
    torch.manual_seed(0)
    ours = SoftTripleLoss(50, 32)
    embeddings, labels = random_batch(50, 32)
    embeddings = embeddings.detach().float()
    assert torch.equal(ours(embeddings, labels), theirs(embeddings, labels))


def test_in_float32_many_classes_have_the_gradient_of_automatic_differentiation_within_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    loss, found = SoftTripleLoss(300, 32), []
    for hand in (False, True):
        if hand:
            by_hand(monkeypatch)
        embeddings, labels = random_batch(300, 32)
        embeddings = embeddings.detach().float().requires_grad_()
        loss.fc.grad = None
        value = loss(embeddings, labels)
        value.backward()
        found.append((value.detach(), embeddings.grad, loss.fc.grad))
    for mine, other in zip(*found, strict=True):
        assert other is not None
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("hand", [False, True])
def test_gamma_is_a_temperature_so_a_small_one_leaves_the_nearest_centre(hand: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if hand:
        by_hand(monkeypatch)
    torch.manual_seed(0)
    loss = SoftTripleLoss(4, 6, 3, la=1, gamma=1e-4, margin=0, weight_reg_weight=0).double()
    embeddings, labels = random_batch(4, 6)
    nearest = (embeddings @ normalize(loss.fc.t()).t()).view(-1, 4, 3).amax(2)
    expected = torch.nn.functional.cross_entropy(nearest, labels)
    assert loss(embeddings, labels).item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("hand", [False, True])
def test_equal_centres_have_a_finite_gradient(hand: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if hand:
        by_hand(monkeypatch)
    loss = SoftTripleLoss(3, 6, 4)
    loss.fc.data.fill_(1.0)
    embeddings, labels = random_batch(3, 6)
    loss(embeddings.detach().float(), labels).backward()
    assert loss.fc.grad is not None
    assert torch.isfinite(loss.fc.grad).all()


def test_the_regulariser_is_not_computed_without_a_weight_or_with_one_centre_per_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SoftTripleLoss, "_distances", None)
    monkeypatch.setattr(softtriple_steps, "_distances", None)
    embeddings, labels = random_batch(4, 6)
    for loss in (SoftTripleLoss(4, 6, weight_reg_weight=0), SoftTripleLoss(4, 6, centers_per_class=1)):
        assert torch.isfinite(loss(embeddings.detach().float(), labels))


def test_the_classes_of_sop_take_a_step() -> None:
    """With all pairs of centres, this would take 48 GiB."""
    torch.manual_seed(0)
    loss = SoftTripleLoss(11_318, 2)
    embeddings, labels = random_batch(11_318, 2)
    loss(embeddings.detach().float(), labels).backward()
    assert loss.fc.grad is not None
    assert torch.isfinite(loss.fc.grad).all()
    assert loss.fc.grad.any()
