"""BN-Inception: the trunk of most published tables in deep metric learning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

# Output channels of the convolutions of each block, in the order of computation. Blocks that halve the feature map have neither
# `1x1` nor `pool_proj`: both of their 3 x 3 branches end with stride 2, and the third branch is max pooling without projection.
BLOCKS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "3a": {"1x1": (64,), "3x3": (64, 64), "double_3x3": (64, 96, 96), "pool_proj": (32,)},
    "3b": {"1x1": (64,), "3x3": (64, 96), "double_3x3": (64, 96, 96), "pool_proj": (64,)},
    "3c": {"3x3": (128, 160), "double_3x3": (64, 96, 96)},
    "4a": {"1x1": (224,), "3x3": (64, 96), "double_3x3": (96, 128, 128), "pool_proj": (128,)},
    "4b": {"1x1": (192,), "3x3": (96, 128), "double_3x3": (96, 128, 128), "pool_proj": (128,)},
    "4c": {"1x1": (160,), "3x3": (128, 160), "double_3x3": (128, 160, 160), "pool_proj": (128,)},
    "4d": {"1x1": (96,), "3x3": (128, 192), "double_3x3": (160, 192, 192), "pool_proj": (128,)},
    "4e": {"3x3": (128, 192), "double_3x3": (192, 256, 256)},
    "5a": {"1x1": (352,), "3x3": (192, 320), "double_3x3": (160, 224, 224), "pool_proj": (128,)},
    "5b": {"1x1": (352,), "3x3": (192, 320), "double_3x3": (192, 224, 224), "pool_proj": (128,)},
}
MAX_POOLED = ("5b",)  # its pooling branch uses max pooling; the pooling branches of all other blocks use average pooling


class BNInception(nn.Module):
    """Inception with batch normalization, without its classifier: 1,024 channels, 1/32 of the side of the image.

    Every convolution has a bias and is followed by batch normalization and ReLU. The parameters have the names of the published
    weight file (`inception_3a_double_3x3_1.weight`, `inception_3a_double_3x3_1_bn.weight`), which therefore loads directly.

    Source:
        Ioffe & Szegedy, ICML 2015, arXiv:1502.03167. Channels and names follow the Caffe model from which the weight file was
        converted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._add_convolution("conv1_7x7_s2", 3, 64, 7, stride=2)
        self._add_convolution("conv2_3x3_reduce", 64, 64, 1)
        self._add_convolution("conv2_3x3", 64, 192, 3)
        channels = 192
        for block, branches in BLOCKS.items():
            channels = self._add_block(f"inception_{block}", channels, branches)

    def _add_convolution(self, name: str, channels_in: int, channels_out: int, size: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=size // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(channels_out))

    def _add_block(self, block: str, channels_in: int, branches: Mapping[str, tuple[int, ...]]) -> int:
        """Add the convolutions of a block, and return its number of output channels."""
        stride = 1 if "1x1" in branches else 2
        for name in ("1x1", "pool_proj"):
            if name in branches:
                self._add_convolution(f"{block}_{name}", channels_in, branches[name][0], 1)
        reduced, single_out = branches["3x3"]
        self._add_convolution(f"{block}_3x3_reduce", channels_in, reduced, 1)
        self._add_convolution(f"{block}_3x3", reduced, single_out, 3, stride)
        reduced, middle, double_out = branches["double_3x3"]
        self._add_convolution(f"{block}_double_3x3_reduce", channels_in, reduced, 1)
        self._add_convolution(f"{block}_double_3x3_1", reduced, middle, 3)
        self._add_convolution(f"{block}_double_3x3_2", middle, double_out, 3, stride)
        if stride == 2:
            return single_out + double_out + channels_in
        return branches["1x1"][0] + single_out + double_out + branches["pool_proj"][0]

    def _layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)), inplace=True)

    def _inception(self, block: str, x: torch.Tensor) -> torch.Tensor:
        name, branches = f"inception_{block}", BLOCKS[block]
        single = self._layer(f"{name}_3x3", self._layer(f"{name}_3x3_reduce", x))
        double = self._layer(f"{name}_double_3x3_1", self._layer(f"{name}_double_3x3_reduce", x))
        double = self._layer(f"{name}_double_3x3_2", double)
        if "1x1" not in branches:
            return torch.cat([single, double, _halve(x)], 1)
        pooled = functional.max_pool2d(x, 3, 1, 1) if block in MAX_POOLED else functional.avg_pool2d(x, 3, 1, 1)
        return torch.cat([self._layer(f"{name}_1x1", x), single, double, self._layer(f"{name}_pool_proj", pooled)], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the feature map.

        Args:
            images: float32 `(B, 3, H, W)`, BGR in 0..255, with the mean subtracted.

        Returns:
            float32 `(B, 1024, h, w)`.
        """
        x = _halve(self._layer("conv1_7x7_s2", images))
        x = _halve(self._layer("conv2_3x3", self._layer("conv2_3x3_reduce", x)))
        for block in BLOCKS:
            x = self._inception(block, x)
        return x


def _halve(x: torch.Tensor) -> torch.Tensor:
    """Apply 3 x 3 max pooling with stride 2. Incomplete windows at the border are kept, as in Caffe."""
    return functional.max_pool2d(x, 3, 2, ceil_mode=True)
