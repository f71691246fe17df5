"""The features of a frozen trunk, computed once and kept in a file that all methods and seeds share."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dmlbench.config.identity import digest
from dmlbench.config.plan import Plan
from dmlbench.data.decoded_cache import locked, name_of, stamp_of
from dmlbench.data.loader import FeatureBatches, make_batches
from dmlbench.data.resized_images import ResizedImages
from dmlbench.data.split import ROLES, Split
from dmlbench.errors import UserError
from dmlbench.models.embedder import Embedder
from dmlbench.system.atomic_write import atomic_write
from dmlbench.training.embed import embed
from dmlbench.training.environment import device_name, versions

VERSION = 1  # of how features come about; raised with every change that moves one
# Of all images that go through the trunk at a time. Not the protocol's batch: protocols of other batches share a file, and on
# the CPU a feature map below 32 MiB lies in memory that is used again, which halves the time (glibc maps a larger one anew).
PIXELS = {"cpu": 200_000, "cuda": 8_000_000}


def cached_features(model: Embedder, plan: Plan, split: Split) -> tuple[FeatureBatches, float]:
    """The pooled features of every image that has a role, from their file; computed at the first call, and where it is stale.

    Of several processes one computes and the others wait. A killed one leaves only a temporary file, which the next removes.

    Args:
        model: with the plan's trunk, on the plan's device.
        plan: says under which conditions the trunk sees the images.
        split: the whole one, before any fold is held out.

    Returns:
        The features as batches, and the seconds spent on computing them: 0 where they were read.

    Raises:
        UserError: the file cannot be written, or an image cannot be read.
    """
    ids = np.flatnonzero(split.frame[list(ROLES)].any(axis=1).to_numpy())
    images = _images(plan, split, ids)
    file = plan.caches / f"features-{_digest(plan, images)}.safetensors"
    stamp, seconds = stamp_of(images), 0.0
    try:
        with locked(file):
            features = _read(file, stamp)
            if features is None:
                began = time.perf_counter()
                features = _computed(model, plan, split, ids)
                seconds = time.perf_counter() - began
                _write(file, features, stamp)
    except OSError as error:
        raise UserError(
            f"the features {file} cannot be kept: {error.strerror or error}; make room, or give another place with "
            "paths.data=FOLDER"
        ) from error
    return FeatureBatches(features, ids, plan.protocol.batch_size), seconds


def _images(plan: Plan, split: Split, ids: np.ndarray) -> ResizedImages:
    paths = split.paths()
    boxes = split.boxes()[ids] if plan.protocol.crop_to_box else None
    return ResizedImages([paths[image_id] for image_id in ids], plan.protocol.resized_px, boxes)


def _digest(plan: Plan, images: ResizedImages) -> str:
    """16 hex digits over all that decides a feature but the content of the files, which the stamp watches."""
    protocol, known = plan.protocol, versions()
    decides = {
        "version": VERSION,
        "images": name_of(images),
        **{name: getattr(protocol, name) for name in ("image_px", "crop_to_box", "pooling", "threads")},
        **{name: value for name, value in plan.shared.items() if name.startswith("trunk_")},
        "seed": plan.seed if plan.trunk.weights_sha256 is None else None,  # of the trunk's initialisation
        "precision": plan.precision,
        "device": device_name(plan.device),
        **{name: known[name] for name in ("torch_version", "torchvision_version", "dmlbench_version")},
        "timm_version": _timm_version(),
    }
    return digest(decides)[:16]


def _timm_version() -> str | None:
    try:
        return version("timm")
    except PackageNotFoundError:
        return None


def _computed(model: Embedder, plan: Plan, split: Split, ids: np.ndarray) -> torch.Tensor:
    at_a_time = max(2, PIXELS[plan.device] // plan.protocol.image_px**2)
    batches = make_batches(replace(plan, protocol=replace(plan.protocol, batch_size=at_a_time)), split)
    with model.at_layer("pooled"):
        return embed(model, batches, ids.tolist(), plan.device, plan.precision, unit=False)


def _read(file: Path, stamp: str) -> torch.Tensor | None:
    """The features in a file, if it is whole and of the images as they are now."""
    try:
        with safe_open(file, "pt") as opened:
            return opened.get_tensor("features") if (opened.metadata() or {}).get("stamp") == stamp else None
    except (FileNotFoundError, SafetensorError):
        return None


def _write(file: Path, features: torch.Tensor, stamp: str) -> None:
    for leftover in file.parent.glob(f".{file.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    atomic_write(file, save({"features": features}, {"stamp": stamp}))
