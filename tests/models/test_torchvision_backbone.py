"""Trunks of torchvision compute what torchvision computes up to its pooling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from dmlbench.errors import UserError
from dmlbench.models.backbones.torchvision_backbone import TorchvisionTrunk
from dmlbench.models.weights import load_weights

ARCHITECTURES = {
    "resnet18": 512,
    "resnet50": 2048,
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


@pytest.mark.parametrize(("architecture", "channels"), ARCHITECTURES.items())
def test_a_trunk_with_published_weights_returns_what_enters_the_classifier(
    architecture: str, channels: int, tmp_path: Path
) -> None:
    complete = get_model(architecture, weights=None, **AUXILIARY.get(architecture, {})).eval()
    torch.save(complete.state_dict(), tmp_path / "weights.pth")  # with all classifiers, like the published files
    trunk = TorchvisionTrunk(architecture).eval()
    load_weights("trunk/t", trunk, tmp_path / "weights.pth")
    inputs: list[torch.Tensor] = []
    classifier = next(getattr(complete, name) for name in ("fc", "classifier") if hasattr(complete, name))
    if isinstance(classifier, nn.Sequential) and architecture == "mobilenet_v2":
        classifier = classifier[-1]
    classifier.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    images = torch.rand(2, 3, 96, 96)

    with torch.no_grad():
        features = trunk(images)
        complete(images)

    assert features.shape[:2] == (2, channels)
    [expected] = inputs  # the feature map, or its average over all positions
    torch.testing.assert_close(features if expected.ndim == 4 else features.mean((2, 3)), expected)


def test_an_unknown_architecture_is_refused_with_a_similar_name() -> None:
    with pytest.raises(UserError, match=r"no model 'resnet51'; did you mean 'resnet50'"):
        TorchvisionTrunk("resnet51")
