"""Vision transformers and other models of timm, without their classifier; timm is an extra."""

from __future__ import annotations

from torch import nn

from dmlbench.errors import UserError, suggest


def timm_trunk(architecture: str) -> nn.Module:
    """A timm model without its classifier, as timm makes it; float32 `(B, 3, H, W)` in.

    A vision transformer gives the class token after its last norm, `(B, C)`, so `protocol.pooling` has nothing to pool; its
    position embedding is interpolated where the crop is another than it was trained with, and a crop's side has to be a
    multiple of its patch. A convolutional net gives its last feature map, `(B, C, h, w)`.

    Args:
        architecture: timm's name of a model, without the part after the dot that names its weights.

    Raises:
        UserError: timm is not installed, or has no such model.
    """
    try:
        import timm
    except ImportError:
        raise UserError("this trunk is timm's, which is not installed; pip install 'dmlbench[timm]'") from None
    if not timm.is_model(architecture):
        raise UserError(f"timm has no model '{architecture}'{suggest(architecture, timm.list_models())}")
    if timm.models.is_model_in_modules(architecture, ["vision_transformer", "deit"]):
        return timm.create_model(architecture, pretrained=False, num_classes=0, dynamic_img_size=True)
    return timm.create_model(architecture, pretrained=False, num_classes=0, global_pool="")
