"""The embedding model: input convention, pooling, projection, normalisation and frozen batch normalization."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError
from dmlbench.models.backbones.convnet import ConvNet
from dmlbench.models.backbones.torchvision_backbone import TorchvisionTrunk
from dmlbench.models.embedder import Embedder
from dmlbench.models.head import pool


def embedder(trunk: nn.Module | None = None, **changes: Any) -> Embedder:
    arguments: dict[str, Any] = {"pooling": "avg", "embedding_dim": 16, "freeze_batch_norm": False, "image_px": 32}
    convention = changes.pop("convention", Trunk("t", "T", {}))
    return Embedder(trunk or ConvNet((4, 8)), convention, **(arguments | changes))


def images(n: int = 5, px: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# Pooling and projection


@pytest.mark.parametrize("pooling", ["avg", "max", "avg+max"])
def test_pooling_reduces_the_positions_of_a_feature_map_and_returns_a_vector_unchanged(pooling: Any) -> None:
    features = torch.randn(3, 4, 5, 6)
    flat = features.flatten(2)
    expected = {"avg": flat.mean(2), "max": flat.max(2).values, "avg+max": flat.mean(2) + flat.max(2).values}
    torch.testing.assert_close(pool(features, pooling), expected[pooling])
    vector = torch.randn(3, 4)
    assert pool(vector, pooling) is vector


def test_mixed_pooling_learns_the_share_of_max_pooling() -> None:
    features = torch.randn(3, 4, 5, 6)
    average, maximum = features.mean((2, 3)), features.amax((2, 3))
    torch.testing.assert_close(pool(features, "mixed", torch.tensor(0.0)), (average + maximum) / 2)
    torch.testing.assert_close(pool(features, "mixed", torch.tensor(30.0)), maximum)
    model = embedder(pooling="mixed")
    assert any(parameter is model.mix for parameter in model.head_parameters())
    (model(images()) @ torch.randn(16)).sum().backward()
    assert model.mix is not None
    assert model.mix.grad != 0
    assert embedder(pooling="mixed", embedding_dim=None).head_parameters() == []


def test_the_projection_may_have_hidden_layers_after_a_layer_norm() -> None:
    model = embedder(hidden=(12, 10), layer_norm=True)
    kinds = [type(layer).__name__ for layer in model.projection.children()]
    assert kinds == ["LayerNorm", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    shapes = [tuple(layer.weight.shape) for layer in model.projection.children() if isinstance(layer, nn.Linear)]
    assert shapes == [(12, 8), (10, 12), (16, 10)]
    assert model(images()).shape == (5, 16)
    assert isinstance(embedder().projection, nn.Linear)


def test_embeddings_have_the_requested_size_and_unit_length() -> None:
    embeddings = embedder()(images())
    assert embeddings.shape == (5, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))


def test_without_a_projection_the_embedding_is_the_pooled_trunk() -> None:
    model = embedder(embedding_dim=None).eval()
    assert model.embedding_dim == 8
    assert not list(model.projection.parameters())
    assert model(images()).shape == (5, 8)


def test_the_output_of_inner_layers_is_available_and_the_model_is_unchanged_afterwards() -> None:
    model = embedder(hidden=(12,)).eval()
    before = model(images())
    with model.at_layer("fully_connected"):
        assert model(images()).shape == (5, 12)
    with model.at_layer("pooled"):
        pooled = model(images())
    torch.testing.assert_close(pooled, nn.functional.normalize(model.pooled(images())))
    assert torch.equal(model(images()), before)
    with (
        pytest.raises(UserError, match=r"layer=fully_connected needs .*protocol\.head_layers"),
        embedder().at_layer("fully_connected"),
    ):
        pass


def test_over_features_the_model_takes_pooled_features_and_has_no_trunk() -> None:
    model = embedder().eval()
    expected, features = model(images()), model.pooled(images())
    with model.over_features():
        torch.testing.assert_close(model(features), expected)
        assert {name.partition(".")[0] for name in model.state_dict()} == {"projection"}
    assert any(name.startswith("trunk.") for name in model.state_dict())


# Attribute branch


@pytest.mark.parametrize("hidden", [(), (12,), (12, 10)])
def test_the_attribute_branch_reads_the_last_hidden_layer_or_the_pooled_features(hidden: tuple[int, ...]) -> None:
    model = embedder(hidden=hidden).eval()
    before = model(images())
    model.add_attribute_branch(3)
    assert model.attributes is not None
    assert model.attributes.in_features == (8, *hidden)[-1]
    embeddings, logits = model.with_attributes(images())
    assert torch.equal(embeddings, before)
    assert torch.equal(model(images()), before)
    with model.at_layer("fully_connected" if hidden else "pooled"):
        shared = model.features(images())
    torch.testing.assert_close(logits, model.attributes(shared))
    with model.at_layer("attributes"):
        torch.testing.assert_close(model.features(images()), logits)
    features = model.pooled(images())
    with model.over_features():
        torch.testing.assert_close(model.with_attributes(features), (before, logits))
        assert "attributes.weight" in model.state_dict()


def test_the_attribute_branch_is_trained_with_the_head_and_its_gradient_reaches_the_trunk() -> None:
    model = embedder(hidden=(12,), pooling="mixed")
    model.add_attribute_branch(3)
    assert model.attributes is not None
    assert {id(one) for one in model.attributes.parameters()} <= {id(one) for one in model.head_parameters()}
    _, logits = model.with_attributes(images())
    logits.square().sum().backward()
    last = list(model.projection.children())[-1]
    assert isinstance(last, nn.Linear)
    assert last.weight.grad is None  # the embedding is another branch
    for parameter in (model.attributes.weight, model.mix, *model.trunk.parameters()):
        assert parameter is not None
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_a_model_without_an_embedding_layer_ends_with_its_last_hidden_layer() -> None:
    model = embedder(hidden=(12,), embedding_dim=None, pooling="mixed").eval()
    assert model.embedding_dim == 12
    assert len(model.head_parameters()) == 3  # weights and biases of the hidden layer, and the share of max pooling
    before = model(images())
    assert before.shape == (5, 12)
    assert (before >= 0).all()  # after ReLU
    with model.at_layer("fully_connected"):
        assert torch.equal(model(images()), before)


# Input convention


@pytest.mark.parametrize(("order", "white"), [("RGB", 1.0), ("BGR", 255.0)])
def test_the_trunk_receives_its_channel_order_range_mean_and_std(order: Any, white: float) -> None:
    inputs: list[torch.Tensor] = []

    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inputs.append(x)
            return x

    mean, std = (0.1 * white, 0.2 * white, 0.3 * white), (0.4 * white, 0.5 * white, 0.6 * white)
    convention = Trunk("t", "T", {}, mean=mean, std=std, channel_order=order, input_range=white)
    raw = images()
    embedder(Probe(), convention=convention, embedding_dim=None)(raw)
    scaled = raw.double().numpy() / 255 * white
    if order == "BGR":
        scaled = scaled[:, ::-1]
    for channel in range(3):
        expected = torch.tensor((scaled[:, channel] - mean[channel]) / std[channel])
        torch.testing.assert_close(inputs[-1][:, channel].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_range": 0.0}, r"trunk\.input_range is 0\.0; it is the value of white that the trunk expects: 1 or 255"),
        ({"std": (0.0, 1.0, 1.0)}, r"trunk\.std is \[0\.0, 1\.0, 1\.0\]; each value must be above 0"),
    ],
)
def test_an_impossible_input_convention_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Trunk("t", "T", {}, **changes)


def test_a_crop_that_is_too_small_for_the_trunk_is_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"trunk/t cannot take images of 8 px, protocol\.image_px: "):
        embedder(TorchvisionTrunk("squeezenet1_0"), image_px=8)


def test_a_trunk_that_does_not_return_features_is_refused() -> None:
    with pytest.raises(UserError, match=r"trunk/t returned \(2, 3072, 1\) for 2 images; it must return"):
        embedder(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3072, 1))))


# Batch normalization


def test_frozen_batch_norm_stays_in_evaluation_mode_and_its_affine_parameters_learn() -> None:
    model = embedder(freeze_batch_norm=True)
    norms = [module for module in model.trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]  # type: ignore[union-attr]
    for _ in range(3):
        model.eval()
        model.train()
        assert model.training
        assert not any(norm.training for norm in norms)
        model(images()).sum().backward()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert all(norm.weight.grad is not None for norm in norms)


def test_batch_norm_that_is_not_frozen_updates_its_statistics() -> None:
    model = embedder().train()
    norm = next(module for module in model.trunk.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    model(images())
    assert not torch.equal(norm.running_mean, before)
