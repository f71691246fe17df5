"""BN-Inception: the trunk of most published tables of metric learning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

# The channels of each block's convolutions, in the order of computation. `1x1` and `pool_proj` are missing where a block halves
# the map: there both 3 x 3 branches end with stride 2, and the third is a maximum pooling without a projection.
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
MAXIMUM_POOLED = ("5b",)  # its pooling branch takes the maximum, the other projected ones the average


class BNInception(nn.Module):
    """Inception with batch normalisation, without its classifier: 1,024 channels, 1/32 of the image's side.

    Every convolution has a bias and is followed by batch norm and ReLU. Parameters have the names of the classic weight file
    (`inception_3a_double_3x3_1.weight`, `inception_3a_double_3x3_1_bn.weight`), so that it loads as it is.

    Source:
        Ioffe & Szegedy, ICML 2015, arXiv:1502.03167; the table of channels and the names are those of the Caffe model that the
        weight file was converted from.
    """

    def __init__(self) -> None:
        super().__init__()
        self._convolve("conv1_7x7_s2", 3, 64, 7, stride=2)
        self._convolve("conv2_3x3_reduce", 64, 64, 1)
        self._convolve("conv2_3x3", 64, 192, 3)
        channels = 192
        for block, branches in BLOCKS.items():
            channels = self._block(f"inception_{block}", channels, branches)

    def _convolve(self, name: str, into: int, out: int, size: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(into, out, size, stride=stride, padding=size // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(out))

    def _block(self, block: str, into: int, branches: Mapping[str, tuple[int, ...]]) -> int:
        """Add a block's convolutions; returns how many channels leave it."""
        stride = 1 if "1x1" in branches else 2
        for name in ("1x1", "pool_proj"):
            if name in branches:
                self._convolve(f"{block}_{name}", into, branches[name][0], 1)
        reduced, out = branches["3x3"]
        self._convolve(f"{block}_3x3_reduce", into, reduced, 1)
        self._convolve(f"{block}_3x3", reduced, out, 3, stride)
        reduced, middle, double_out = branches["double_3x3"]
        self._convolve(f"{block}_double_3x3_reduce", into, reduced, 1)
        self._convolve(f"{block}_double_3x3_1", reduced, middle, 3)
        self._convolve(f"{block}_double_3x3_2", middle, double_out, 3, stride)
        if stride == 2:
            return out + double_out + into
        return branches["1x1"][0] + out + double_out + branches["pool_proj"][0]

    def _layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x)), inplace=True)

    def _inception(self, block: str, x: torch.Tensor) -> torch.Tensor:
        name, branches = f"inception_{block}", BLOCKS[block]
        single = self._layer(f"{name}_3x3", self._layer(f"{name}_3x3_reduce", x))
        double = self._layer(f"{name}_double_3x3_1", self._layer(f"{name}_double_3x3_reduce", x))
        double = self._layer(f"{name}_double_3x3_2", double)
        if "1x1" not in branches:
            return torch.cat([single, double, _halved(x)], 1)
        pooled = functional.max_pool2d(x, 3, 1, 1) if block in MAXIMUM_POOLED else functional.avg_pool2d(x, 3, 1, 1)
        return torch.cat([self._layer(f"{name}_1x1", x), single, double, self._layer(f"{name}_pool_proj", pooled)], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images float32 `(B, 3, H, W)`, BGR in 0..255 less the mean, to a feature map `(B, 1024, h, w)`."""
        x = _halved(self._layer("conv1_7x7_s2", images))
        x = _halved(self._layer("conv2_3x3", self._layer("conv2_3x3_reduce", x)))
        for block in BLOCKS:
            x = self._inception(block, x)
        return x


def _halved(x: torch.Tensor) -> torch.Tensor:
    """Maximum pooling 3 x 3 with stride 2; the last place is kept where it is not full, as Caffe keeps it."""
    return functional.max_pool2d(x, 3, 2, ceil_mode=True)
