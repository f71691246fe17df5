"""Properties of the losses of ranks that their formulas do not show."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning.losses import SmoothAPLoss as LibrarySmoothAP
from torch import nn
from torch.nn.functional import normalize, one_hot

from dmlbench.losses.ranking import RecallAtKSurrogateLoss, RoadmapLoss, SmoothAPLoss

LOSSES = {"smooth_ap": SmoothAPLoss(), "roadmap": RoadmapLoss(), "recall_at_k": RecallAtKSurrogateLoss()}


def batch(n_classes: int = 4, per_class: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    return normalize(torch.randn(len(labels), 5, generator=generator, dtype=torch.float64)), labels


def test_smooth_ap_equals_pytorch_metric_learning_on_sorted_batches_of_as_many_classes_as_images_per_class() -> None:
    """The library's class (2.9) divides other batches into groups of the wrong size."""
    embeddings, labels = batch(4, 4)
    assert LOSSES["smooth_ap"](embeddings, labels).item() == pytest.approx(LibrarySmoothAP()(embeddings, labels).item())


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_order_of_the_batch_does_not_matter(loss: nn.Module) -> None:
    embeddings, labels = batch()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    assert loss(embeddings[order], labels[order]).item() == pytest.approx(loss(embeddings, labels).item())


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_separated_classes_have_a_smaller_loss_than_mixed_ones(loss: nn.Module) -> None:
    embeddings, labels = batch()
    separated = one_hot(labels, 5).double()
    assert loss(separated, labels) < loss(embeddings, labels)


@pytest.mark.parametrize("name", ["smooth_ap", "roadmap"])
def test_separated_classes_have_a_loss_of_zero(name: str) -> None:
    _, labels = batch()
    # Ties within a class keep its sigmoids at one half; its positives are equal, so their precision is one.
    assert LOSSES[name](one_hot(labels, 5).double(), labels).item() == pytest.approx(0, abs=1e-9)


def test_each_k_needs_one_temperature() -> None:
    with pytest.raises(ValueError, match="ks has 2 values and k_temperatures 1; each k needs one temperature"):
        RecallAtKSurrogateLoss(ks=[1, 2], k_temperatures=[1])
