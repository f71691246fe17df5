"""Convolutional classifiers of torchvision, without their classifier."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import get_model, list_models

from dmlbench.errors import UserError, suggest

# Modules of torchvision's models: the first one that is part of the classifier, and the auxiliary classifiers for training.
_CLASSIFIER = ("avgpool", "classifier", "fc")
_AUXILIARY = ("AuxLogits", "aux1", "aux2")
# Further arguments: no auxiliary classifiers, and the initialisation of torch, because that of torchvision takes minutes.
_INCEPTIONS = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


class TorchvisionTrunk(nn.Module):
    """A torchvision model up to its last feature map. Its parameters have the names that torchvision gives them.

    Args:
        architecture: Name of a torchvision model that calls its modules one after the other up to the pooling: `resnet*`,
            `googlenet`, `inception_v3`, `mobilenet_v2`, `squeezenet*`, `vgg*`, `densenet*`, ...

    Raises:
        UserError: torchvision has no such model.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        if architecture not in list_models():
            raise UserError(f"torchvision has no model '{architecture}'{suggest(architecture, list_models())}")
        for name, module in get_model(architecture, weights=None, **_INCEPTIONS.get(architecture, {})).named_children():
            if name in _CLASSIFIER:
                break
            if name not in _AUXILIARY:
                self.add_module(name, module)
        if architecture.startswith("densenet"):
            self.add_module("relu", nn.ReLU(inplace=True))  # torchvision calls this ReLU as a function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the feature map.

        Args:
            images: float32 `(B, 3, H, W)`, normalised.

        Returns:
            float32 `(B, C, h, w)`.
        """
        for module in self.children():
            images = module(images)
        return images
