"""Trunks of timm: their features, their own input conventions, and no waiting where there is no network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from dmlbench.launch import compose
from omegaconf import OmegaConf
from safetensors.torch import save_file

from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError
from dmlbench.models.backbones.timm_backbone import timm_trunk
from dmlbench.models.embedder import Embedder
from dmlbench.models.weights import load_weights

timm = pytest.importorskip("timm")

TRUNKS = ("vit_small", "deit_small", "dino_vit_small", "dinov2_vit_small")


def config(name: str) -> dict[str, Any]:
    found = OmegaConf.to_container(compose([f"trunk={name}"])[0].trunk)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.mark.parametrize("name", TRUNKS)
def test_a_transformer_gives_the_class_token_of_the_published_weights(name: str, tmp_path: Path) -> None:
    architecture = config(name)["make"]["architecture"]
    whole = timm.create_model(architecture, num_classes=7, dynamic_img_size=True).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")  # with a classifier, as it is published
    trunk = timm_trunk(architecture).eval()
    file = tmp_path / "w.safetensors"

    load_weights(f"trunk/{name}", trunk, file)
    x = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        got, tokens = trunk(x), whole.forward_features(x)
    assert got.shape == (2, 384)
    torch.testing.assert_close(got, tokens[:, 0])


@pytest.mark.parametrize("name", TRUNKS)
def test_input_and_address_are_those_that_timm_tells(name: str) -> None:
    ours = config(name)
    entry = ours["published"]["imagenet"]
    full_name = entry["file"].removesuffix(".safetensors")
    theirs = timm.get_pretrained_cfg(full_name)
    assert full_name.startswith(ours["make"]["architecture"] + ".")
    assert (tuple(ours["mean"]), tuple(ours["std"])) == (theirs.mean, theirs.std)
    assert entry["url"] == f"https://huggingface.co/{theirs.hf_hub_id}/resolve/main/model.safetensors"


def test_a_convolutional_net_gives_its_feature_map() -> None:
    with torch.no_grad():
        assert timm_trunk("resnet18").eval()(torch.rand(2, 3, 64, 64)).shape == (2, 512, 2, 2)


def test_a_crop_that_is_no_multiple_of_the_patch_is_one_sentence() -> None:
    with pytest.raises(
        UserError, match=r"trunk/vit cannot take images of 227 px, protocol\.image_px: .*divisible by patch size"
    ):
        Embedder(timm_trunk("vit_small_patch16_224"), Trunk("vit", "V", {}), "avg", 8, False, 227)


def test_an_unknown_model_is_refused_with_a_near_name() -> None:
    with pytest.raises(UserError, match="timm has no model 'vit_smal_patch16_224'; did you mean 'vit_small_patch16_224'"):
        timm_trunk("vit_smal_patch16_224")


def test_a_missing_timm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'dmlbench\[timm\]'"):
        timm_trunk("vit_small_patch16_224")
