"""The embedding model: trunk, pooling, projection and normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from dmlbench.config.instantiate import build
from dmlbench.config.plan import Plan
from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError
from dmlbench.models.backbones.raw_pixels import RawPixels
from dmlbench.models.head import Pooling, pool, projection
from dmlbench.models.weights import load_weights, weights_file
from dmlbench.system.seeding import derive_seed, torch_stream

# Pixels are averaged as they are: no channel is scaled, and each image loses its own mean.
_PIXELS = Trunk("pixels", "Pixels", {}, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
Layer = Literal["embedding", "fully_connected", "pooled"]
AnyLayer = Literal[Layer, "attributes"]


class Embedder(nn.Module):
    """A model that maps images to L2-normalised embeddings.

    Args:
        trunk: Maps float32 images `(B, 3, H, W)` to a feature map `(B, C, h, w)` or to a vector `(B, C)`.
        convention: Input convention of the trunk (channel order, range, mean, standard deviation), applied by the embedder.
        pooling: Pooling of a feature map; see `pool`.
        embedding_dim: Size D of the embedding. None for no projection; D is then the size of the last hidden layer, or C.
        freeze_batch_norm: Keep the batch normalization of the trunk in evaluation mode, also after `train()`.
        image_px: Side of the images, in pixels. Two blank images of this size are passed through the trunk to determine C.
        hidden: Sizes of the hidden layers of the projection. Empty for a linear projection.
        layer_norm: Whether to apply a LayerNorm to the pooled features before the projection.

    Attributes:
        embedding_dim: Size D of the embedding.
        attributes: Linear branch that predicts the attributes of an image; see `add_attribute_branch`. None without one.

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
        self.shared_dim = (channels, *hidden)[-1]  # size of the layer that the embedding and the attributes are computed from
        self.embedding_dim = embedding_dim or self.shared_dim
        self.projection = projection(channels, hidden, embedding_dim, layer_norm)
        self.attributes: nn.Linear | None = None
        # Logit of the share of max pooling. It does not learn in a model without other parameters after the trunk, which uses
        # half of each.
        learns = any(True for _ in self.projection.parameters())
        self.mix = nn.Parameter(torch.zeros(()), requires_grad=learns) if pooling == "mixed" else None

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
        """Return the parameters after the trunk that learn: projection, share of mixed pooling, and attribute branch."""
        share = [self.mix] if self.mix is not None and self.mix.requires_grad else []
        branch = [] if self.attributes is None else list(self.attributes.parameters())
        return [*self.projection.parameters(), *share, *branch]

    def add_attribute_branch(self, n_attributes: int) -> None:
        """Add a linear layer that predicts attributes from the last hidden layer, or from the pooled features without one.

        Args:
            n_attributes: Number of attributes.
        """
        self.attributes = nn.Linear(self.shared_dim, n_attributes)
        if self.mix is not None:
            self.mix.requires_grad_(True)

    @contextmanager
    def without_projection(self) -> Iterator[None]:
        """Return a context in which the model returns the pooled features of the trunk."""
        with self.at_layer("pooled"):
            yield

    @contextmanager
    def at_layer(self, layer: AnyLayer) -> Iterator[None]:
        """Return a context in which the model returns the output of a layer: L2-normalised, or as it is by `features`.

        Args:
            layer: `embedding`, `fully_connected` (the last hidden layer of the projection), `pooled` (the pooled features of
                the trunk), or `attributes` (the logits of the attribute branch).

        Raises:
            UserError: The projection has no hidden layer.
        """
        complete = self.projection
        if layer == "fully_connected":
            shared, _ = self._split_projection()
            if not any(isinstance(part, nn.ReLU) for part in shared.modules()):
                raise UserError(
                    "layer=fully_connected needs a model with hidden layers (protocol.head_layers), but this projection is "
                    "linear; use layer=embedding or layer=pooled"
                )
            self.projection = shared
        elif layer == "attributes":
            assert self.attributes is not None
            self.projection = nn.Sequential(self._split_projection()[0], self.attributes)
        elif layer == "pooled":
            self.projection = nn.Identity()
        try:
            yield
        finally:
            self.projection = complete

    def _split_projection(self) -> tuple[nn.Module, nn.Module]:
        """The layers that embedding and attributes share, up to the last hidden layer, and the layers after them."""
        if isinstance(self.projection, nn.Linear):
            return nn.Identity(), self.projection
        if isinstance(self.projection, nn.Sequential) and isinstance(self.projection[-1], nn.Linear):
            return self.projection[:-1], self.projection[-1]
        return self.projection, nn.Identity()

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

    def with_attributes(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the embeddings of a batch and the logits of its attributes.

        Args:
            images: As for `forward`.

        Returns:
            Embeddings, float32 `(B, D)`, L2-normalised; and logits, float32 `(B, K)`.
        """
        assert self.attributes is not None
        shared_layers, embedding = self._split_projection()
        shared = shared_layers(images if self.takes_features else self.pooled(images))
        return functional.normalize(_float32(embedding(shared))), _float32(self.attributes(shared))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the embeddings of a batch, without normalisation.

        Args:
            images: As for `forward`.

        Returns:
            float32 `(B, D)`.
        """
        pooled = images if self.takes_features else self.pooled(images)
        return _float32(self.projection(pooled))

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


def _float32(values: torch.Tensor) -> torch.Tensor:
    """Values of lower precision in float32; float64, in which tests compare gradients, is kept."""
    return values if values.dtype == torch.float64 else values.float()


def build_embedder(plan: Plan) -> Embedder:
    """Build the embedder of a plan: the trunk with its weights, and what the method trains after it.

    Trunk, projection and attribute branch are initialised from separate random streams, so that every method starts from the
    same weights.

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
    protocol, method = plan.protocol, plan.method
    trained = method.make is not None
    with torch_stream(derive_seed(plan.seed, "initialise projection")):
        model = Embedder(
            trunk,
            plan.trunk,
            protocol.pooling,
            protocol.embedding_dim if trained and method.layer == "embedding" else None,
            protocol.freeze_batch_norm,
            protocol.image_px,
            protocol.head_layers if trained else (),
            trained and protocol.head_norm == "layer",
        )
    if method.attributes == "predicted":
        assert method.n_attributes is not None  # `runs.prepare` counts them
        with torch_stream(derive_seed(plan.seed, "initialise attribute branch")):
            model.add_attribute_branch(method.n_attributes)
    return model
