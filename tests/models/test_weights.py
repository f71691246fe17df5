"""Weights of trunks: where they come from, what is refused, and how they are loaded."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError
from dmlbench.models.backbones.convnet import ConvNet
from dmlbench.models.backbones.torchvision_backbone import TorchvisionTrunk
from dmlbench.models.weights import load_weights, sha256, weights_file

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def saved(tmp_path: Path, state: object) -> Path:
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    return file


def trunk_with(weights: str, architecture: str | None = None, **published: dict[str, str]) -> Trunk:
    make = {"architecture": architecture} if architecture else {}
    return Trunk("t", "T", make, weights=weights, published=published)


# Loading


def test_half_precision_weights_with_a_classifier_and_without_counters_load(tmp_path: Path) -> None:
    complete = get_model("mobilenet_v2", weights=None)
    state = {k: v.half() for k, v in complete.state_dict().items() if not k.endswith("num_batches_tracked")}
    trunk = TorchvisionTrunk("mobilenet_v2")
    load_weights("trunk/t", trunk, saved(tmp_path, {"state_dict": {f"module.{k}": v for k, v in state.items()}}))
    for name, value in trunk.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, state[name].float())


def test_weights_of_another_architecture_are_refused_with_the_number_of_differences(tmp_path: Path) -> None:
    file = saved(tmp_path, get_model("resnet18", weights=None).state_dict())
    sentence = r"contains the weights of another architecture: \d+ tensors missing \(first '.*'\), \d+ tensors unknown"
    with pytest.raises(UserError, match=sentence):
        load_weights("trunk/mobilenet_v2", TorchvisionTrunk("mobilenet_v2"), file)
    with pytest.raises(UserError, match=r"\d+ tensors of another shape"):
        load_weights("trunk/resnet50", TorchvisionTrunk("resnet50"), file)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nonexistent-dmlbench").touch, ())


def test_a_file_that_would_execute_code_is_refused_in_one_sentence(tmp_path: Path) -> None:
    file = saved(tmp_path, {"features": Payload()})
    reason = "it contains more than tensors, and other objects may execute code"
    sentence = rf"can be read safely: {reason}; save the state dict [^.\n\x1b]+$"
    with pytest.raises(UserError, match=sentence):
        load_weights("trunk/t", ConvNet((4,)), file)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_torch_never_advises_to_load_a_pickle(tmp_path: Path, protocol: int, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps(Payload(), protocol=protocol))
    with pytest.raises(UserError, match="is not a state dict") as error:
        load_weights("trunk/t", ConvNet((4,)), file)
    assert "weights_only" not in f"{error.value}{capfd.readouterr()}"
    assert not Path("/nonexistent-dmlbench").exists()


@pytest.mark.parametrize("content", [pickle.dumps([1], protocol=2), b"", b"text"], ids=["list", "empty", "text"])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not a state dict" if content else r"can be read safely: it is empty$"):
        load_weights("trunk/t", ConvNet((4,)), file)


def test_a_file_of_something_else_is_refused_as_such(tmp_path: Path) -> None:
    for name, content in (("passwd", b"root:x:0:0:root:/root:/bin/bash\n" * 9), ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(99))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} is not a state dict.*: it is a file of neither torch nor safetensors$"):
            load_weights("trunk/t", ConvNet((4,)), tmp_path / name)


@pytest.mark.parametrize("state", [{1: torch.zeros(1)}, {None: torch.zeros(1)}, {"state_dict": {2: torch.zeros(1)}}], ids=str)
def test_a_state_dict_whose_keys_are_not_text_is_refused(tmp_path: Path, state: object) -> None:
    with pytest.raises(UserError, match="is not a state dict, which maps names to tensors"):
        load_weights("trunk/t", ConvNet((4,)), saved(tmp_path, state))


def test_weights_may_be_safetensors(tmp_path: Path) -> None:
    source, trunk = ConvNet((4,)), ConvNet((4,))
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights("trunk/t", trunk, tmp_path / "w.safetensors")
    for name, value in source.state_dict().items():
        assert torch.equal(trunk.state_dict()[name], value)
    (tmp_path / "w.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="is not a state dict that can be read safely"):
        load_weights("trunk/t", trunk, tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("architecture", "file"),
    [
        ("mobilenet_v2", "mobilenet_v2_imagenet_trunk_fp16.pth"),
        ("squeezenet1_0", "squeezenet1_0_imagenet_fp16.pth"),
    ],
)
def test_real_imagenet_weights_load_into_every_parameter(architecture: str, file: str) -> None:
    if not (SHARED_DATA / file).is_file():
        pytest.skip(f"needs {file} in ../shared/data")
    trunk = TorchvisionTrunk(architecture)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    load_weights(f"trunk/{architecture}", trunk, SHARED_DATA / file)
    changed = {name for name, value in trunk.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name, _ in trunk.named_parameters()} <= changed


# Finding


def test_weights_are_none_a_file_or_a_published_name(tmp_path: Path) -> None:
    file = saved(tmp_path, {})
    assert weights_file("trunk/t", trunk_with("none")) is None
    assert weights_file("trunk/t", trunk_with(str(file))) == file
    with pytest.raises(UserError, match="'IMAGENET1K_V7', neither a file nor a published name; did you mean 'IMAGENET1K_V"):
        weights_file("trunk/resnet18", trunk_with("IMAGENET1K_V7", "resnet18"))
    with pytest.raises(UserError, match="neither a file nor a published name; did you mean 'imagenet'"):
        weights_file("trunk/mine", trunk_with("imagnet", imagenet={"url": "http://127.0.0.1:9/w.pth"}))


def test_a_failed_download_says_where_to_put_the_file_and_a_wrong_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    trunk = trunk_with("imagenet", imagenet={"url": "http://127.0.0.1:9/w.pth", "sha256": sha256(saved(tmp_path, {}))})
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/w\.pth .*w\.pth yourself, or name a local file with trunk\.weights"):
        weights_file("trunk/t", trunk)
    cached = tmp_path / "checkpoints" / "w.pth"
    saved(tmp_path, {}).replace(cached)
    assert weights_file("trunk/t", trunk) == cached
    cached.write_bytes(b"another file")
    with pytest.raises(UserError, match=r"w\.pth .*sha256.* remove it"):
        weights_file("trunk/t", trunk)


def test_weights_of_torchvision_are_verified_with_the_hash_in_their_file_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"sha256.* f37072fd"):
        weights_file("trunk/resnet18", trunk_with("IMAGENET1K_V1", "resnet18"))


def test_sha256_is_the_digest_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    assert sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example 1
