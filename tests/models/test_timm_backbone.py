"""Trunks of timm: their features, and their input conventions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dmlbench.config.compose import compose, plain
from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError
from dmlbench.models.backbones.timm_backbone import timm_trunk
from dmlbench.models.embedder import Embedder
from dmlbench.models.weights import load_weights

timm = pytest.importorskip("timm")

TRUNKS = ("vit_small", "deit_small", "dino_vit_small", "dinov2_vit_small")


def config(name: str) -> dict[str, Any]:
    return plain(compose([f"trunk={name}"]).cfg, "trunk")


@pytest.mark.parametrize(
    "name", ["vit_small", "deit_small", "dinov2_vit_small"]
)  # dino_vit_small has the architecture of vit_small
def test_a_transformer_with_published_weights_returns_the_class_token(name: str, tmp_path: Path) -> None:
    architecture = config(name)["make"]["architecture"]
    complete = timm.create_model(architecture, num_classes=7, dynamic_img_size=True).eval()
    file = tmp_path / "weights.safetensors"
    save_file(complete.state_dict(), file)  # with a classifier, like the published files
    trunk = timm_trunk(architecture).eval()

    load_weights(f"trunk/{name}", trunk, file)

    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        output, tokens = trunk(images), complete.forward_features(images)
    assert output.shape == (2, 384)
    torch.testing.assert_close(output, tokens[:, 0])


@pytest.mark.parametrize("name", TRUNKS)
def test_input_convention_and_url_are_those_of_timm(name: str) -> None:
    trunk = config(name)
    entry = trunk["published"]["imagenet"]
    full_name = entry["file"].removesuffix(".safetensors")
    expected = timm.get_pretrained_cfg(full_name)
    assert full_name.startswith(trunk["make"]["architecture"] + ".")
    assert (tuple(trunk["mean"]), tuple(trunk["std"])) == (expected.mean, expected.std)
    assert entry["url"] == f"https://huggingface.co/{expected.hf_hub_id}/resolve/main/model.safetensors"


def test_a_convolutional_network_returns_its_feature_map() -> None:
    with torch.no_grad():
        assert timm_trunk("resnet18").eval()(torch.rand(2, 3, 64, 64)).shape == (2, 512, 2, 2)


def test_a_crop_that_is_not_a_multiple_of_the_patch_size_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        UserError, match=r"trunk/vit cannot take images of 227 px, protocol\.image_px: .*divisible by patch size"
    ):
        Embedder(timm_trunk("vit_small_patch16_224"), Trunk("vit", "V", {}), "avg", 8, False, 227)


def test_an_unknown_model_is_refused_with_a_similar_name() -> None:
    with pytest.raises(UserError, match="timm has no model 'vit_smal_patch16_224'; did you mean 'vit_small_patch16_224'"):
        timm_trunk("vit_smal_patch16_224")


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'dmlbench\[timm\]'"):
        timm_trunk("vit_small_patch16_224")
