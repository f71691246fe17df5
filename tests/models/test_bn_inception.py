"""BN-Inception is the network of the published weight file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch import nn

from dmlbench.config.compose import compose, plain
from dmlbench.errors import UserError
from dmlbench.models.backbones.bn_inception import BNInception
from dmlbench.models.weights import load_weights


@pytest.fixture(scope="module")
def trunk() -> BNInception:
    torch.manual_seed(0)
    return BNInception().eval()


def published_layout(trunk: BNInception) -> dict[str, torch.Tensor]:
    """A state dict like the published one: batch norms of shape (1, C), no counters, a classifier of 1,000 classes."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, value in trunk.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            random = torch.rand(value.shape, generator=generator)
            state[name] = random[None] if "_bn." in name else random
    return {**state, "last_linear.weight": torch.zeros(1000, 1024), "last_linear.bias": torch.zeros(1000)}


def test_the_input_of_each_block_has_the_published_shape(trunk: BNInception) -> None:
    """Table 1 of arXiv:1502.03167, with blocks 5a and 5b of the Caffe model."""
    x = torch.rand(1, 3, 224, 224)
    shapes = {}
    for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        first_layer = getattr(trunk, f"inception_{block}_3x3_reduce")
        first_layer.register_forward_pre_hook(lambda _, inputs, block=block: shapes.update({block: tuple(inputs[0].shape[1:])}))
    with torch.no_grad():
        assert trunk(x).shape == (1, 1024, 7, 7)
    assert shapes == {
        "3a": (192, 28, 28),
        "3b": (256, 28, 28),
        "3c": (320, 28, 28),
        "4a": (576, 14, 14),
        "4b": (576, 14, 14),
        "4c": (576, 14, 14),
        "4d": (608, 14, 14),
        "4e": (608, 14, 14),
        "5a": (1056, 7, 7),
        "5b": (1024, 7, 7),
    }


def test_it_has_as_many_parameters_as_the_published_network(trunk: BNInception) -> None:
    """11,295,240 parameters with the classifier of 1,000 classes, which has 1,025,000; affine batch norm is included."""
    n_parameters = sum(parameter.numel() for parameter in trunk.parameters())
    assert n_parameters == 10_270_240
    assert n_parameters + 1024 * 1000 + 1000 == 11_295_240
    assert sum(isinstance(module, nn.Conv2d) for module in trunk.modules()) == 69
    assert all(module.bias is not None for module in trunk.modules() if isinstance(module, nn.Conv2d))


def test_a_file_in_the_published_layout_loads(trunk: BNInception, tmp_path: Path) -> None:
    state = published_layout(trunk)
    torch.save(state, tmp_path / "bn_inception.pth")
    fresh = BNInception()
    load_weights("trunk/bn_inception", fresh, tmp_path / "bn_inception.pth")
    for name, value in fresh.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name].reshape(value.shape)), name


def test_a_file_with_a_missing_layer_or_another_shape_is_refused(trunk: BNInception, tmp_path: Path) -> None:
    state = published_layout(trunk)
    del state["inception_5b_1x1.weight"]
    state["conv1_7x7_s2_bn.weight"] = torch.ones(2, 64)
    torch.save(state, tmp_path / "w.pth")
    sentence = r"1 tensors missing \(first 'inception_5b_1x1\.weight'\), 1 tensors of another shape \(first 'conv1_7x7_s2_bn\."
    with pytest.raises(UserError, match=sentence):
        load_weights("trunk/bn_inception", BNInception(), tmp_path / "w.pth")


def test_an_inception_block_computes_its_four_branches(trunk: BNInception) -> None:
    """Blocks 3a (average pooling) and 5b (max pooling) against NumPy, convolution by convolution."""

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        convolution, norm = trunk.get_submodule(name), trunk.get_submodule(f"{name}_bn")
        weight, pad = convolution.weight.detach().numpy(), convolution.padding[0]  # type: ignore[union-attr,index,operator]
        stride = convolution.stride[0]  # type: ignore[union-attr,index]
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        out = np.stack([correlate(padded, kernel, mode="valid")[0] for kernel in weight])[:, ::stride, ::stride]
        out = out + convolution.bias.detach().numpy()[:, None, None]  # type: ignore[union-attr,operator]
        mean, var, scale, shift = (
            getattr(norm, part).detach().numpy()[:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return np.maximum((out - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)

    def pooled(x: np.ndarray, maximum: bool) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf if maximum else 0)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        return windows.max((3, 4)) if maximum else windows.mean((3, 4))

    def block(name: str, x: np.ndarray, maximum: bool) -> np.ndarray:
        prefix = f"inception_{name}_"
        single = layer(prefix + "3x3", layer(prefix + "3x3_reduce", x))
        double = layer(prefix + "double_3x3_2", layer(prefix + "double_3x3_1", layer(prefix + "double_3x3_reduce", x)))
        return np.concatenate([layer(prefix + "1x1", x), single, double, layer(prefix + "pool_proj", pooled(x, maximum))])

    for name, channels in (("3a", 192), ("5b", 1024)):
        x = np.random.default_rng(0).random((channels, 5, 5)).astype(np.float32)
        output = trunk._inception(name, torch.from_numpy(x)[None])[0].detach().numpy()
        np.testing.assert_allclose(output, block(name, x, maximum=name == "5b"), rtol=1e-3, atol=1e-4)


def test_its_input_is_bgr_from_0_to_255_with_the_mean_of_caffe_subtracted() -> None:
    trunk = plain(compose(["trunk=bn_inception"]).cfg, "trunk")
    assert (trunk["channel_order"], trunk["input_range"]) == ("BGR", 255)
    assert (trunk["mean"], trunk["std"]) == ([104, 117, 128], [1, 1, 1])
    assert trunk["published"]["imagenet"]["sha256"].startswith("52deb473314542a5")
