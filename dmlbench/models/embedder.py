"""Trunk, pooling, projection and normalisation as one module: images to embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from dmlbench.config.instantiate import build
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError
from dmlbench.models.weights import load_weights, weights_file
from dmlbench.system.seeding import derive_seed, torch_stream

Pooling = Literal["avg", "max", "avg+max", "mixed"]
Layer = Literal["embedding", "fully_connected", "pooled"]


class Embedder(nn.Module):
    """Images in, L2-normalised embeddings out.

    Args:
        trunk: float images `(B, 3, H, W)` to a feature map `(B, C, h, w)` or a vector `(B, C)`.
        convention: the trunk's input convention; the embedder applies it, never the user.
        pooling: of a feature map.
        embedding_dim: D of the projection; None projects nothing, and D is the trunk's C.
        freeze_batch_norm: keep the trunk's batch norm in evaluation mode, after every `train()` too.
        image_px: side of the images, to find C by one trial.
        hidden: sizes of the projection's hidden layers; none for a linear one.
        layer_norm: of the pooled features, before the projection.

    Attributes:
        embedding_dim: D of what comes out.

    Raises:
        UserError: the trunk returns something else than features of `B` images.
    """

    def __init__(
        self,
        trunk: nn.Module,
        convention: Trunk,
        pooling: Pooling,
        embedding_dim: int | None,
        freeze_batch_norm: bool,
        image_px: int,
        hidden: Sequence[int] = (),
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling
        self.takes_features = False
        self.freeze_batch_norm = freeze_batch_norm
        self.reverse_channels = convention.channel_order == "BGR"
        scale = 255 / convention.input_range
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(convention.mean).view(3, 1, 1) * scale, persistent=False)
        self.register_buffer("std", torch.tensor(convention.std).view(3, 1, 1) * scale, persistent=False)
        channels = self._trunk_channels(convention.name, image_px)
        self.embedding_dim = embedding_dim or channels
        self.projection = projection(channels, hidden, embedding_dim, layer_norm) if embedding_dim else nn.Identity()
        # the logit of the maximum's share; a method that trains nothing takes the half of each
        self.mix = nn.Parameter(torch.zeros(()), requires_grad=bool(embedding_dim)) if pooling == "mixed" else None

    def _trunk_channels(self, name: str, image_px: int) -> int:
        mode = self.trunk.training
        self.trunk.eval()
        try:
            with torch.no_grad():
                features = self.trunk(torch.zeros(2, 3, image_px, image_px))
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"trunk/{name} cannot take images of {image_px} px, protocol.image_px: {reason}") from error
        self.trunk.train(mode)
        if not isinstance(features, torch.Tensor) or features.ndim not in (2, 4) or len(features) != 2:
            got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise UserError(f"trunk/{name} returned {got} for 2 images; it must return (2, C, h, w) or (2, C)")
        return features.shape[1]

    def head_parameters(self) -> list[nn.Parameter]:
        """What follows the trunk and learns: the projection, and the share of mixed pooling."""
        own = [self.mix] if self.mix is not None and self.mix.requires_grad else []
        return [*self.projection.parameters(), *own]

    @contextmanager
    def without_projection(self) -> Iterator[None]:
        """Within, the embedding is the pooled trunk."""
        with self.at_layer("pooled"):
            yield

    @contextmanager
    def at_layer(self, layer: Layer) -> Iterator[None]:
        """Within, what comes out is that of a layer: `embedding`, or the projection's last hidden one, or the pooled trunk.

        Raises:
            UserError: the projection has no hidden layer.
        """
        whole = self.projection
        if layer == "fully_connected":
            if not isinstance(whole, nn.Sequential) or not any(isinstance(part, nn.ReLU) for part in whole):
                raise UserError(
                    "layer=fully_connected: the projection is linear; protocol.head_layers would give it a hidden layer"
                )
            self.projection = whole[:-1]
        elif layer == "pooled":
            self.projection = nn.Identity()
        try:
            yield
        finally:
            self.projection = whole

    @contextmanager
    def over_features(self) -> Iterator[None]:
        """Within, the model takes pooled features in place of images and has no trunk: neither parameters nor state of it."""
        whole, self.trunk, self.takes_features = self.trunk, nn.Identity(), True
        try:
            yield
        finally:
            self.trunk, self.takes_features = whole, False

    def train(self, mode: bool = True) -> Embedder:
        """Set the training mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self.trunk.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed a batch.

        Args:
            images: uint8 `(B, 3, H, W)`, RGB; `over_features` float32 `(B, C)`.

        Returns:
            float32 `(B, D)`, of unit length.
        """
        return functional.normalize(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The same before it is brought to unit length."""
        pooled = images if self.takes_features else self.pooled(images)
        return self.projection(pooled).float()

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """The trunk's features of images, pooled, `(B, C)`."""
        if self.reverse_channels:
            images = images.flip(1)
        features = self.trunk((images.float() - self.mean) / self.std)
        return pool(features, self.pooling, self.mix)


def projection(channels: int, hidden: Sequence[int], embedding_dim: int, layer_norm: bool) -> nn.Module:
    """From pooled features `(B, C)` to `(B, D)`: a linear layer, or a perceptron with ReLU after each hidden layer."""
    sizes = (channels, *hidden)
    layers: list[nn.Module] = [nn.LayerNorm(channels)] if layer_norm else []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(sizes[-1], embedding_dim))
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def pool(features: torch.Tensor, pooling: Pooling, mix: torch.Tensor | None = None) -> torch.Tensor:
    """Pool a feature map over its places.

    Args:
        features: `(B, C, h, w)`, or `(B, C)`, which is left as it is.
        pooling: `avg`, `max`, `avg+max`: their sum, as in Proxy-Anchor's code, or `mixed`: a share of each, as in Lee,
            Gallagher & Tu, AISTATS 2016, arXiv:1509.08985 (one share for the layer).
        mix: of `mixed`: the logit of the maximum's share, a scalar.

    Returns:
        `(B, C)`.
    """
    if features.ndim == 2:
        return features
    average = features.mean((2, 3))
    if pooling == "avg":
        return average
    greatest = features.amax((2, 3))
    if pooling == "mixed":
        assert mix is not None
        share = torch.sigmoid(mix)
        return share * greatest + (1 - share) * average
    return greatest + (average if pooling == "avg+max" else 0)


def build_embedder(plan: Plan) -> Embedder:
    """Build a plan's embedder: trunk with its weights, and a projection unless the method trains nothing.

    Trunk and projection are initialised from streams of their own, so that every method starts from the same weights.
    """
    place = f"trunk/{plan.trunk.name}"
    with torch_stream(derive_seed(plan.seed, "initialise trunk")):
        trunk = build(place, plan.trunk.make)
    if not isinstance(trunk, nn.Module):
        raise UserError(f"{place}: {plan.trunk.make['_target_']} made {type(trunk).__name__}; a trunk is a torch.nn.Module")
    file = weights_file(place, plan.trunk)
    if file is not None:
        load_weights(place, trunk, file)
    protocol = plan.protocol
    with torch_stream(derive_seed(plan.seed, "initialise projection")):
        return Embedder(
            trunk,
            plan.trunk,
            protocol.pooling,
            protocol.embedding_dim if plan.method.make is not None else None,
            protocol.freeze_batch_norm,
            protocol.image_px,
            protocol.head_layers,
            protocol.head_norm == "layer",
        )
