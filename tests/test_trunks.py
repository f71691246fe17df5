from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from dmlbench.errors import UserError
from dmlbench.plan import Trunk
from dmlbench.trunks.convnet import ConvNet
from dmlbench.trunks.embedder import Embedder, pool
from dmlbench.trunks.from_torchvision import TorchvisionTrunk
from dmlbench.trunks.weights import load_weights, sha256, weights_file

KIT = Path(__file__).resolve().parents[2] / "shared" / "data"
ARCHITECTURES = {"resnet18": 512, "resnet50": 2048, "mobilenet_v2": 1280, "squeezenet1_0": 512}


def embedder(trunk: nn.Module | None = None, **changes: Any) -> Embedder:
    given: dict[str, Any] = {"pooling": "avg", "embedding_dim": 16, "freeze_batch_norm": False, "image_px": 32}
    convention = changes.pop("convention", Trunk("t", "T", {}))
    return Embedder(trunk or ConvNet((4, 8)), convention, **(given | changes))


def images(n: int = 5, px: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("architecture", "channels"), ARCHITECTURES.items())
def test_a_torchvision_trunk_computes_what_torchvision_does_up_to_its_pooling(architecture: str, channels: int) -> None:
    whole = get_model(architecture, weights=None).eval()
    trunk = TorchvisionTrunk(architecture).eval()
    trunk.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith(("fc", "classifier"))})
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        got = trunk(x)
        assert got.shape[:2] == (2, channels)
        if hasattr(whole, "features"):
            expected = whole.features(x)
        else:  # up to the input of the ResNet's fc, which is the pooled map
            whole.fc = nn.Identity()
            expected, got = whole(x), got.mean((2, 3))
    torch.testing.assert_close(got, expected)


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


def test_weights_are_none_a_file_or_a_published_name(tmp_path: Path) -> None:
    file = saved(tmp_path, {})
    assert weights_file("trunk/t", "none", None) is None
    assert weights_file("trunk/t", str(file), None) == file
    with pytest.raises(UserError, match="'IMAGENET1K_V7', neither a file nor a published name; did you mean 'IMAGENET1K_V"):
        weights_file("trunk/resnet18", "IMAGENET1K_V7", "resnet18")
    with pytest.raises(UserError, match="neither a file nor a published name"):
        weights_file("trunk/mine", "IMAGENET1K_V1", None)


def test_published_weights_that_cannot_be_downloaded_are_one_sentence_that_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"could not be downloaded .*no network.*; put the file there"):
        weights_file("trunk/resnet18", "IMAGENET1K_V1", "resnet18")
    cached = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    cached.write_bytes(b"x")
    assert weights_file("trunk/resnet18", "IMAGENET1K_V1", "resnet18") == cached


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
