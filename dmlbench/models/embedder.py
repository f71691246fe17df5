"""The embedding model: trunk, pooling, projection and normalisation."""

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
from dmlbench.models.backbones.raw_pixels import RawPixels
from dmlbench.models.weights import load_weights, weights_file
from dmlbench.system.seeding import derive_seed, torch_stream

# Pixels are averaged as they are: no channel is scaled, and each image loses its own mean.
_PIXELS = Trunk("pixels", "Pixels", {}, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
Pooling = Literal["avg", "max", "avg+max", "mixed"]
Layer = Literal["embedding", "fully_connected", "pooled"]


class Embedder(nn.Module):
    """A model that maps images to L2-normalised embeddings.

    Args:
        trunk: Maps float32 images `(B, 3, H, W)` to a feature map `(B, C, h, w)` or to a vector `(B, C)`.
        convention: Input convention of the trunk (channel order, range, mean, standard deviation), applied by the embedder.
        pooling: Pooling of a feature map; see `pool`.
        embedding_dim: Size D of the embedding. None for no projection; D is then C.
        freeze_batch_norm: Keep the batch normalization of the trunk in evaluation mode, also after `train()`.
        image_px: Side of the images, in pixels. Two blank images of this size are passed through the trunk to determine C.
        hidden: Sizes of the hidden layers of the projection. Empty for a linear projection.
        layer_norm: Whether to apply a LayerNorm to the pooled features before the projection.

    Attributes:
        embedding_dim: Size D of the embedding.

    Raises:
        UserError: The trunk does not accept images of this size, or returns something other than features.
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
        self.channels = channels = self._trunk_channels(convention.name, image_px)
        self.embedding_dim = embedding_dim or channels
        self.projection = projection(channels, hidden, embedding_dim, layer_norm) if embedding_dim else nn.Identity()
        # Logit of the share of max pooling. It does not learn in a model without projection, which uses half of each.
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
            returned = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise UserError(f"trunk/{name} returned {returned} for 2 images; it must return (2, C, h, w) or (2, C)")
        return features.shape[1]

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters after the trunk that learn: the projection, and the share of mixed pooling."""
        share = [self.mix] if self.mix is not None and self.mix.requires_grad else []
        return [*self.projection.parameters(), *share]

    @contextmanager
    def without_projection(self) -> Iterator[None]:
        """Return a context in which the model returns the pooled features of the trunk."""
        with self.at_layer("pooled"):
            yield

    @contextmanager
    def at_layer(self, layer: Layer) -> Iterator[None]:
        """Return a context in which the model returns the output of a layer, L2-normalised.

        Args:
            layer: `embedding`, `fully_connected` (the last hidden layer of the projection), or `pooled` (the pooled features of
                the trunk).

        Raises:
            UserError: The projection has no hidden layer.
        """
        complete = self.projection
        if layer == "fully_connected":
            if not isinstance(complete, nn.Sequential) or not any(isinstance(part, nn.ReLU) for part in complete):
                raise UserError(
                    "layer=fully_connected needs a model with hidden layers (protocol.head_layers), but this projection is "
                    "linear; use layer=embedding or layer=pooled"
                )
            self.projection = complete[:-1]
        elif layer == "pooled":
            self.projection = nn.Identity()
        try:
            yield
        finally:
            self.projection = complete

    @contextmanager
    def over_features(self) -> Iterator[None]:
        """Return a context in which the model accepts pooled features instead of images.

        The trunk is removed from the module: neither its parameters nor its buffers are in `parameters()` and `state_dict()`.
        """
        trunk, self.trunk, self.takes_features = self.trunk, nn.Identity(), True
        try:
            yield
        finally:
            self.trunk, self.takes_features = trunk, False

    def train(self, mode: bool = True) -> Embedder:
        """Set training or evaluation mode. Frozen batch normalization stays in evaluation mode.

        Args:
            mode: True for training mode.

        Returns:
            The model itself.
        """
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self.trunk.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the embeddings of a batch.

        Args:
            images: uint8 `(B, 3, H, W)`, RGB; within `over_features`, pooled features, float32 `(B, C)`.

        Returns:
            float32 `(B, D)`, L2-normalised.
        """
        return functional.normalize(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the embeddings of a batch, without normalisation.

        Args:
            images: As for `forward`.

        Returns:
            float32 `(B, D)`.
        """
        pooled = images if self.takes_features else self.pooled(images)
        return self.projection(pooled).float()

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the pooled features of the trunk.

        Args:
            images: uint8 `(B, 3, H, W)`, RGB.

        Returns:
            float `(B, C)`, of the dtype that the trunk returns.
        """
        if self.reverse_channels:
            images = images.flip(1)
        features = self.trunk((images.float() - self.mean) / self.std)
        return pool(features, self.pooling, self.mix)


def projection(channels: int, hidden: Sequence[int], embedding_dim: int, layer_norm: bool) -> nn.Module:
    """Build the projection from pooled features `(B, C)` to embeddings `(B, D)`.

    Args:
        channels: Number of channels C.
        hidden: Sizes of the hidden layers, each followed by ReLU. Empty for a linear projection.
        embedding_dim: Size D of the embedding.
        layer_norm: Whether to begin with a LayerNorm.
    """
    sizes = (channels, *hidden)
    layers: list[nn.Module] = [nn.LayerNorm(channels)] if layer_norm else []
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(sizes[-1], embedding_dim))
    return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


def pool(features: torch.Tensor, pooling: Pooling, mix: torch.Tensor | None = None) -> torch.Tensor:
    """Pool a feature map over its spatial positions.

    Args:
        features: float `(B, C, h, w)`; or `(B, C)`, which is returned unchanged.
        pooling: `avg`; `max`; `avg+max`, the sum of both, as in the code of Proxy-Anchor; or `mixed`, a learned share of each.
        mix: For `mixed`: logit of the share of max pooling, a scalar.

    Returns:
        float `(B, C)`.

    Source:
        `mixed`: Lee, Gallagher & Tu, AISTATS 2016, arXiv:1509.08985, with one share for the whole layer.
    """
    if features.ndim == 2:
        return features
    average = features.mean((2, 3))
    if pooling == "avg":
        return average
    maximum = features.amax((2, 3))
    if pooling == "mixed":
        assert mix is not None
        share = torch.sigmoid(mix)
        return share * maximum + (1 - share) * average
    return maximum + (average if pooling == "avg+max" else 0)


def build_embedder(plan: Plan) -> Embedder:
    """Build the embedder of a plan: the trunk with its weights, and a projection unless the method trains nothing.

    Trunk and projection are initialised from separate random streams, so that every method starts from the same weights.

    Args:
        plan: Plan of the run.

    Raises:
        UserError: The trunk cannot be built, or its weights cannot be loaded.
    """
    if plan.method.features == "pixels":
        return Embedder(RawPixels(), _PIXELS, "avg", None, False, plan.protocol.image_px)
    name = f"trunk/{plan.trunk.name}"
    with torch_stream(derive_seed(plan.seed, "initialise trunk")):
        trunk = build(name, plan.trunk.make)
    if not isinstance(trunk, nn.Module):
        target = plan.trunk.make["_target_"]
        raise UserError(f"{name}: {target} returned {type(trunk).__name__}; a trunk must be a torch.nn.Module")
    file = weights_file(name, plan.trunk)
    if file is not None:
        load_weights(name, trunk, file)
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
