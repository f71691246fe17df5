"""Trained models, loaded when an image has to be embedded; the least recently used one leaves. Imports torch on first use."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dmlbench.errors import UserError
from dmlbench.web.least_used import LeastUsed
from dmlbench.web.snapshot import Model

if TYPE_CHECKING:
    from dmlbench.config.plan import Plan
    from dmlbench.models.embedder import Embedder

_CAPACITY_BYTES = 2 * 2**30


class Models:
    """Loads models under the rules of `dmlbench evaluate --layer`: a run directory is data, and nothing in it is executed.

    Args:
        options: Overrides that the user typed. They are trusted.
        config_dir: Directory of the user's own configuration files.
        capacity: Memory for parameters and buffers of loaded models, in bytes.

    Attributes:
        options: The overrides, and the device of this machine.
        loading: Held while a configuration is composed.
    """

    def __init__(self, options: Sequence[str] = (), config_dir: Path | None = None, capacity: float = _CAPACITY_BYTES) -> None:
        # The machine of the server may lack the device of the run.
        self.options = (*([] if any("device=" in one for one in options) else ["device=cpu"]), *options)
        self._config_dir = config_dir
        self._loaded: LeastUsed[object, tuple[Plan, Embedder]] = LeastUsed(capacity, lambda loaded: _bytes(loaded[1]))
        self.loading = threading.Lock()  # composing a configuration is not safe in several threads

    def __len__(self) -> int:
        return len(self._loaded)

    def embed(self, model: Model, pixels: np.ndarray) -> np.ndarray:
        """Embed an image as the test images of a run were embedded.

        Args:
            model: Model.
            pixels: uint8 `(H, W, 3)`, RGB.

        Returns:
            float32 `(D,)`, of unit length.

        Raises:
            UserError: The model cannot be loaded; the text says why.
        """
        import torch
        from torchvision.transforms import v2

        from dmlbench.data.loader import to_device

        plan, network = self._loaded.get((model.key, model.stamp), lambda: self._load(model))
        protocol = plan.protocol
        image = torch.tensor(pixels).permute(2, 0, 1)
        cropped = v2.CenterCrop(protocol.image_px)(v2.Resize(protocol.resized_px, antialias=True)(image))
        with torch.inference_mode():
            embedded: np.ndarray = network(to_device(cropped[None], plan.device))[0].float().cpu().numpy()
        if not np.isfinite(embedded).all():
            raise UserError(f"the model {model.label} gives no finite embedding of this image")
        return embedded

    def _load(self, model: Model) -> tuple[Plan, Embedder]:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        from dmlbench.runs.recorded_plan import recorded_model_plan
        from dmlbench.runs.reevaluate import load_saved_model

        with self.loading:
            try:
                plan = recorded_model_plan(model.row, self.options, self._config_dir)
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(f"{model.row.folder}: {str(error).splitlines()[0]}") from None
            network = load_saved_model(model.row, plan)
        network.eval()
        return plan, network


def _bytes(network: Embedder) -> int:
    return sum(one.numel() * one.element_size() for one in (*network.parameters(), *network.buffers()))
