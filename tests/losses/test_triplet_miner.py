"""The triplet miner finds the same triplets as the library's; triplets of the sampler replace those of a miner."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners
from torch.nn.functional import normalize

from dmlbench.config.compose import compose, resolve
from dmlbench.config.plan import method_columns
from dmlbench.config.schema import Method
from dmlbench.errors import UserError
from dmlbench.losses import triplet_miner
from dmlbench.losses.consecutive_triplets import ConsecutiveTriplets
from dmlbench.losses.objective import build_objective
from dmlbench.results.columns import method_digest

TRIPLETS = {"_target_": "dmlbench.data.triplet_sampler.triplets"}
BALANCED = {"_target_": "dmlbench.data.samplers.m_per_class", "samples_per_class": 4}


def method(name: str, *overrides: str) -> Method:
    return resolve(compose([f"loss={name}", *overrides])).method


def batch(n: int = 48, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 7
    centres = torch.randn(7, 16, generator=generator)[labels]
    return normalize(centres + torch.randn(n, 16, generator=generator)), labels


@pytest.mark.parametrize("at_once", [1, 2**18])
@pytest.mark.parametrize("distance", [distances.LpDistance(power=2), distances.CosineSimilarity()])
@pytest.mark.parametrize("kind", ["all", "hard", "semihard", "easy"])
def test_the_triplets_equal_those_of_pytorch_metric_learning_in_their_order(
    kind: str, distance: Any, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triplet_miner, "TRIPLETS_AT_ONCE", at_once)
    arguments = {"margin": 0.3, "type_of_triplets": kind, "distance": distance}
    embeddings, labels = batch()
    expected = miners.TripletMarginMiner(**arguments)(embeddings, labels)
    found = triplet_miner.TripletMarginMiner(**arguments)(embeddings, labels)
    assert len(expected[0]) > 0
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("labels", [[0] * 8, list(range(8))])
def test_a_batch_without_triplets_gives_none(labels: list[int]) -> None:
    embeddings, _ = batch(8)
    found = triplet_miner.TripletMarginMiner()(embeddings, torch.tensor(labels))
    assert [(len(part), part.dtype) for part in found] == [(0, torch.int64)] * 3


def test_loss_triplet_uses_it_and_is_bit_equal_to_the_library_under_its_old_identity() -> None:
    results = []
    module = "pytorch_metric_learning.miners.triplet_margin_miner.TripletMarginMiner"
    for overrides in ((), (f"loss.miner._target_={module}",)):
        objective = build_objective(method("triplet", *overrides))
        assert objective is not None
        assert isinstance(objective.miner, triplet_miner.TripletMarginMiner) == (not overrides)
        embeddings, labels = batch()
        embeddings.requires_grad_()
        value = objective(embeddings, labels)
        value.backward()
        results.append((value.detach(), embeddings.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert method_digest(method_columns(method("triplet"))) == "ffc8b99b"


# Triplets of the sampler


@pytest.mark.parametrize("sampler", [None, BALANCED])
def test_a_method_keeps_its_miner_with_other_samplers(sampler: dict[str, Any] | None) -> None:
    objective = build_objective(method("triplet"), sampler)
    assert objective is not None
    assert isinstance(objective.miner, miners.TripletMarginMiner)


@pytest.mark.parametrize("name", ["triplet", "batch_all", "contrastive", "multi_similarity"])
def test_a_pair_loss_uses_the_triplets_of_the_sampler_only(name: str) -> None:
    objective = build_objective(method(name), TRIPLETS)
    assert objective is not None
    assert isinstance(objective.miner, ConsecutiveTriplets)
    embeddings, labels = batch(9)
    a = torch.tensor([0, 3, 6])
    assert torch.equal(objective(embeddings, labels), objective.loss(embeddings, labels, (a, a + 1, a + 2)))


def test_the_loss_over_consecutive_triplets_is_that_of_the_library() -> None:
    objective = build_objective(method("conventional"))
    assert objective is not None
    embeddings, labels = batch(30)
    embeddings.requires_grad_()
    expected = losses.TripletMarginLoss(margin=0.2)
    a = torch.arange(0, 30, 3)
    violations = expected.distance(embeddings)[a, a + 1] - expected.distance(embeddings)[a, a + 2] + 0.2
    assert objective(embeddings, labels).item() == pytest.approx(violations.clamp(min=0).mean().item(), rel=1e-4)


def test_a_classification_loss_learns_from_all_images_of_the_triplets() -> None:
    objective = build_objective(method("softtriple"), TRIPLETS)
    assert objective is not None
    assert objective.miner is None


@pytest.mark.parametrize("name", ["contrastive_hadsell", "smooth_ap", "cross_batch_memory"])
def test_a_loss_that_accepts_no_triplets_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^loss/{name}: dmlbench\..*Loss cannot learn from triplets that the sampler builds"):
        build_objective(method(name), TRIPLETS)
