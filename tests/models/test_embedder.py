from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError
from dmlbench.models.backbones.convnet import ConvNet
from dmlbench.models.backbones.torchvision_backbone import TorchvisionTrunk
from dmlbench.models.embedder import Embedder, pool
from dmlbench.models.weights import load_weights, sha256, weights_file

KIT = Path(__file__).resolve().parents[3] / "shared" / "data"
ARCHITECTURES = {
    "resnet18": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "mobilenet_v2": 1280,
    "squeezenet1_0": 512,
    "googlenet": 1024,
    "inception_v3": 2048,
    "densenet121": 1024,
}
AUXILIARY = {
    "googlenet": {"aux_logits": True, "init_weights": False},
    "inception_v3": {"aux_logits": True, "init_weights": False},
}


def embedder(trunk: nn.Module | None = None, **changes: Any) -> Embedder:
    given: dict[str, Any] = {"pooling": "avg", "embedding_dim": 16, "freeze_batch_norm": False, "image_px": 32}
    convention = changes.pop("convention", Trunk("t", "T", {}))
    return Embedder(trunk or ConvNet((4, 8)), convention, **(given | changes))


def images(n: int = 5, px: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("architecture", "channels"), ARCHITECTURES.items())
def test_a_torchvision_trunk_computes_what_torchvision_does_up_to_its_pooling(
    architecture: str, channels: int, tmp_path: Path
) -> None:
    whole = get_model(architecture, weights=None, **AUXILIARY.get(architecture, {})).eval()
    trunk = TorchvisionTrunk(architecture).eval()
    file = saved(tmp_path, whole.state_dict())
    load_weights("trunk/t", trunk, file)  # as published, with its classifiers
    x = torch.rand(2, 3, 96, 96)
    seen: list[torch.Tensor] = []
    last = next((getattr(whole, name) for name in ("fc", "classifier") if hasattr(whole, name)), None)
    pooled = last[-1] if isinstance(last, nn.Sequential) and architecture == "mobilenet_v2" else last
    assert pooled is not None
    pooled.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        got = trunk(x)
        whole(x)
    assert got.shape[:2] == (2, channels)
    [expected] = seen  # what enters the classifier: the map itself, or what is left of it by average pooling
    torch.testing.assert_close(got if expected.ndim == 4 else got.mean((2, 3)), expected)


def test_an_unknown_architecture_is_refused_with_a_near_name() -> None:
    with pytest.raises(UserError, match=r"no model 'resnet51'; did you mean 'resnet50'"):
        TorchvisionTrunk("resnet51")


@pytest.mark.parametrize("pooling", ["avg", "max", "avg+max"])
def test_pooling_is_over_the_places_of_a_map_and_leaves_a_vector_alone(pooling: Any) -> None:
    features = torch.randn(3, 4, 5, 6)
    flat = features.flatten(2)
    expected = {"avg": flat.mean(2), "max": flat.max(2).values, "avg+max": flat.mean(2) + flat.max(2).values}
    torch.testing.assert_close(pool(features, pooling), expected[pooling])
    vector = torch.randn(3, 4)
    assert pool(vector, pooling) is vector


def test_mixed_pooling_learns_the_share_of_the_maximum() -> None:
    features = torch.randn(3, 4, 5, 6)
    average, greatest = features.mean((2, 3)), features.amax((2, 3))
    torch.testing.assert_close(pool(features, "mixed", torch.tensor(0.0)), (average + greatest) / 2)
    torch.testing.assert_close(pool(features, "mixed", torch.tensor(30.0)), greatest)
    model = embedder(pooling="mixed")
    assert any(parameter is model.mix for parameter in model.head_parameters())
    (model(images()) @ torch.randn(16)).sum().backward()
    assert model.mix is not None
    assert model.mix.grad != 0
    assert embedder(pooling="mixed", embedding_dim=None).head_parameters() == []


def test_the_projection_may_be_a_perceptron_after_a_layer_norm() -> None:
    model = embedder(hidden=(12, 10), layer_norm=True)
    kinds = [type(layer).__name__ for layer in model.projection.children()]
    assert kinds == ["LayerNorm", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [tuple(layer.weight.shape) for layer in model.projection.children() if isinstance(layer, nn.Linear)] == [
        (12, 8),
        (10, 12),
        (16, 10),
    ]
    assert model(images()).shape == (5, 16)
    assert isinstance(embedder().projection, nn.Linear)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_range": 0.0}, r"trunk\.input_range is 0\.0; it is what white is to the trunk: 1 or 255"),
        ({"std": (0.0, 1.0, 1.0)}, r"trunk\.std is \[0\.0, 1\.0, 1\.0\]; each of its numbers must be above 0"),
    ],
)
def test_an_input_convention_that_cannot_be_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Trunk("t", "T", {}, **changes)


def test_a_crop_that_is_too_small_for_the_trunk_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"trunk/t cannot take images of 8 px, protocol\.image_px: "):
        embedder(TorchvisionTrunk("squeezenet1_0"), image_px=8)


def test_embeddings_have_the_asked_size_and_unit_length() -> None:
    out = embedder()(images())
    assert out.shape == (5, 16)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(5))


def test_without_a_projection_the_embedding_is_the_pooled_trunk() -> None:
    model = embedder(embedding_dim=None).eval()
    assert model.embedding_dim == 8
    assert not list(model.projection.parameters())
    assert model(images()).shape == (5, 8)


@pytest.mark.parametrize(("order", "white"), [("RGB", 1.0), ("BGR", 255.0)])
def test_the_trunk_sees_its_own_channel_order_range_mean_and_std(order: Any, white: float) -> None:
    seen: list[torch.Tensor] = []

    class Probe(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
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
        torch.testing.assert_close(seen[-1][:, channel].double(), expected, rtol=1e-5, atol=1e-5)


def test_frozen_batch_norm_stays_frozen_after_every_train_and_its_affine_part_learns() -> None:
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


def test_batch_norm_that_is_not_frozen_learns_its_statistics() -> None:
    model = embedder().train()
    norm = next(module for module in model.trunk.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    model(images())
    assert not torch.equal(norm.running_mean, before)


def test_a_trunk_that_returns_no_features_is_refused() -> None:
    with pytest.raises(UserError, match=r"trunk/t returned \(2, 3072, 1\) for 2 images; it must return"):
        embedder(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (3072, 1))))


def saved(tmp_path: Path, state: object) -> Path:
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    return file


def test_weights_are_loaded_in_half_precision_with_a_classifier_beside_them_and_without_counters(
    tmp_path: Path,
) -> None:
    whole = get_model("mobilenet_v2", weights=None)
    state = {k: v.half() for k, v in whole.state_dict().items() if not k.endswith("num_batches_tracked")}
    trunk = TorchvisionTrunk("mobilenet_v2")
    load_weights("trunk/t", trunk, saved(tmp_path, {"state_dict": {f"module.{k}": v for k, v in state.items()}}))
    for name, value in trunk.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, state[name].float())


def test_weights_of_another_architecture_are_refused_and_what_differs_is_counted(tmp_path: Path) -> None:
    file = saved(tmp_path, get_model("resnet18", weights=None).state_dict())
    sentence = r"holds the weights of another architecture: \d+ tensors missing \(first '.*'\), \d+ tensors unknown"
    with pytest.raises(UserError, match=sentence):
        load_weights("trunk/mobilenet_v2", TorchvisionTrunk("mobilenet_v2"), file)
    with pytest.raises(UserError, match="of another shape"):
        load_weights("trunk/resnet50", TorchvisionTrunk("resnet50"), file)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nonexistent-dmlbench").touch, ())


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, {"features": Payload()})
    with pytest.raises(UserError, match="is no state dict that can be read safely"):
        load_weights("trunk/t", ConvNet((4,)), file)
    file.write_bytes(pickle.dumps([1]))
    with pytest.raises(UserError, match="is no state dict"):
        load_weights("trunk/t", ConvNet((4,)), file)


def of(weights: str, architecture: str | None = None, **published: dict[str, str]) -> Trunk:
    make = {"architecture": architecture} if architecture else {}
    return Trunk("t", "T", make, weights=weights, published=published)


def test_weights_are_none_a_file_or_a_published_name(tmp_path: Path) -> None:
    file = saved(tmp_path, {})
    assert weights_file("trunk/t", of("none")) is None
    assert weights_file("trunk/t", of(str(file))) == file
    with pytest.raises(UserError, match="'IMAGENET1K_V7', neither a file nor a published name; did you mean 'IMAGENET1K_V"):
        weights_file("trunk/resnet18", of("IMAGENET1K_V7", "resnet18"))
    with pytest.raises(UserError, match="neither a file nor a published name; did you mean 'imagenet'"):
        weights_file("trunk/mine", of("imagnet", imagenet={"url": "http://127.0.0.1:9/w.pth"}))


def test_published_weights_that_cannot_be_downloaded_are_one_sentence_that_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    trunk = of("imagenet", imagenet={"url": "http://127.0.0.1:9/w.pth", "sha256": sha256(saved(tmp_path, {}))})
    with pytest.raises(
        UserError, match=r"cannot be reached .*; put it at .*w\.pth yourself, or name a local file with trunk\.w"
    ):
        weights_file("trunk/t", trunk)
    cached = tmp_path / "checkpoints" / "w.pth"
    saved(tmp_path, {}).replace(cached)
    assert weights_file("trunk/t", trunk) == cached
    cached.write_bytes(b"another file")
    with pytest.raises(
        UserError, match=r"w\.pth is not the published file: its sha256 is .*; remove it, and it is fetched again"
    ):
        weights_file("trunk/t", trunk)


def test_torchvisions_weights_are_held_to_the_hash_in_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"its sha256 is .*, not f37072fd"):
        weights_file("trunk/resnet18", of("IMAGENET1K_V1", "resnet18"))


def test_weights_may_be_safetensors(tmp_path: Path) -> None:
    source, trunk = ConvNet((4,)), ConvNet((4,))
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights("trunk/t", trunk, tmp_path / "w.safetensors")
    for name, value in source.state_dict().items():
        assert torch.equal(trunk.state_dict()[name], value)
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="is no state dict that can be read safely"):
        load_weights("trunk/t", trunk, tmp_path / "w.safetensors")


def test_a_digest_is_that_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    assert sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example 1


@pytest.mark.parametrize(
    ("architecture", "file"),
    [
        ("mobilenet_v2", "mobilenet_v2_imagenet_trunk_fp16.pth"),
        ("squeezenet1_0", "squeezenet1_0_imagenet_fp16.pth"),
    ],
)
def test_the_kits_real_weights_load(architecture: str, file: str) -> None:
    if not (KIT / file).is_file():
        pytest.skip(f"needs {file} in ../shared/data")
    trunk = TorchvisionTrunk(architecture)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    load_weights(f"trunk/{architecture}", trunk, KIT / file)
    changed = [n for n, v in trunk.state_dict().items() if not torch.equal(v, before[n])]
    learnt = [n for n, _ in trunk.named_parameters()]
    assert set(learnt) <= set(changed)
