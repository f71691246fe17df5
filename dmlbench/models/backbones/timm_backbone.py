"""Vision transformers and other models of timm, without their classifier. Requires `pip install 'dmlbench[timm]'`."""

from __future__ import annotations

from torch import nn

from dmlbench.errors import UserError, suggest


def timm_trunk(architecture: str) -> nn.Module:
    """Build a timm model without its classifier. It accepts float32 images `(B, 3, H, W)`.

    A vision transformer returns the class token after its last norm, `(B, C)`, so `protocol.pooling` has no effect. The side of
    the crop has to be a multiple of the patch size; the position embedding is interpolated if the crop differs in size from the
    training images. A convolutional network returns its last feature map, `(B, C, h, w)`.

    Args:
        architecture: Name of a timm model, without the part after the dot, which names the weights.

    Raises:
        UserError: timm is not installed, or has no such model.
    """
    try:
        import timm
    except ImportError:
        raise UserError("this trunk needs timm, which is not installed; pip install 'dmlbench[timm]'") from None
    if not timm.is_model(architecture):
        raise UserError(f"timm has no model '{architecture}'{suggest(architecture, timm.list_models())}")
    if timm.models.is_model_in_modules(architecture, ["vision_transformer", "deit"]):
        return timm.create_model(architecture, pretrained=False, num_classes=0, dynamic_img_size=True)
    return timm.create_model(architecture, pretrained=False, num_classes=0, global_pool="")
