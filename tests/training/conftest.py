"""A tiny data set and a tiny plan, shared by the tests of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmlbench.config.plan import Plan
from dmlbench.config.schema import Dataset, Method, Protocol, Trunk
from dmlbench.data.split import Split
from dmlbench.training.environment import make_deterministic

CLASSES, PER_CLASS = 6, 5
SOFTTRIPLE = {
    "_target_": "pytorch_metric_learning.losses.SoftTripleLoss",
    "num_classes": CLASSES,
    "embedding_size": 8,
    "centers_per_class": 2,
}
PROTOCOL = Protocol(
    name="tiny",
    version=1,
    epochs=3,
    batch_size=6,
    embedding_dim=8,
    image_px=16,
    freeze_batch_norm=False,
    lr=1e-2,
    head_lr_scale=2,
)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Twelve classes of five noisy images of one colour; the first six classes train."""
    root = tmp_path_factory.mktemp("colours")
    generator = np.random.default_rng(0)
    lines = []
    for label in range(2 * CLASSES):
        colour = generator.integers(0, 256, 3)
        for k in range(PER_CLASS):
            path = f"{label}_{k}.png"
            noise = generator.integers(-40, 41, (20, 24, 3))
            Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(root / path)
            train = label < CLASSES
            roles = {"train": train, "val": False, "query": not train, "gallery": not train}
            lines.append({"path": path, "label": label, "class_name": str(label), **roles})
    return Split(pd.DataFrame(lines), root)


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan]:
    """A function that makes a plan for a directory of runs. Keyword arguments replace fields of the plan."""
    make_deterministic(1)

    def make(runs: Path, **changes: Any) -> Plan:
        fields: dict[str, Any] = {
            "dataset": Dataset((1, 2), {}, "colours", "Colours"),
            "trunk": Trunk("convnet", "ConvNet", {"_target_": "dmlbench.models.backbones.convnet.ConvNet", "channels": [4, 8]}),
            "method": Method("softtriple", "SoftTriple", "classification", 2, lr_scale=3, make=SOFTTRIPLE),
            "protocol": dataclasses.replace(PROTOCOL, **changes.pop("protocol", {})),
            "sampler": {"_target_": "dmlbench.data.samplers.m_per_class", "samples_per_class": 2},
            "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.1},
            "seed": 0,
            "shared": {"dataset": "colours"},
            "fingerprint": "0" * 8,
            "method_digest": "1" * 8,
            "run_id": "run",
            "runs": runs,
        }
        plan = Plan(**(fields | changes))
        plan.folder.mkdir(parents=True, exist_ok=True)
        return plan

    return make
