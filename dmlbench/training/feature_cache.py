"""Features of a frozen trunk, computed once and cached in a file that all methods and seeds share."""

from __future__ import annotations

import hashlib
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from dmlbench.config.identity import digest
from dmlbench.config.plan import Plan
from dmlbench.data.decoded_cache import locked, name_of, stamp_of
from dmlbench.data.loader import FeatureBatches, make_batches
from dmlbench.data.resized_images import ResizedImages
from dmlbench.data.split import ROLES, Split
from dmlbench.errors import UserError
from dmlbench.models.embedder import Embedder
from dmlbench.system.atomic_write import DISK_FULL, atomic_write
from dmlbench.system.regular_files import NotARegularFileError, open_regular
from dmlbench.training import processes
from dmlbench.training.embed import embed
from dmlbench.training.environment import cpu_columns, device_name, versions

VERSION = 2  # of the file and of the computation of features; raised with every change that affects a feature
# Pixels of the images that pass through the trunk at a time. Independent of the protocol's batch size, because protocols with
# different batch sizes share a file. On the CPU, feature maps below 32 MiB reuse memory, which halves the time: glibc maps
# larger ones anew.
PIXELS = {"cpu": 200_000, "cuda": 8_000_000}


def cached_features(model: Embedder, plan: Plan, split: Split) -> tuple[FeatureBatches, float]:
    """Read the pooled features of all images that have a role. They are computed if the file is missing, stale or damaged.

    One of several commands computes the features, and the others wait. A process that is killed leaves a temporary file, which
    the next process removes.

    Args:
        model: Model with the trunk of the plan, on the device of the plan.
        plan: Plan that determines how the trunk sees the images.
        split: The whole data set, before any fold is held out.

    Returns:
        The features as batches, and the time spent on computing them, in seconds; 0 if they were read.

    Raises:
        UserError: The file cannot be written, or an image cannot be read.
    """
    ids = np.flatnonzero(split.frame[list(ROLES)].any(axis=1).to_numpy())
    images = _images(plan, split, ids)
    file = plan.caches / f"features-{_digest(plan, images)}.safetensors"
    stamp, seconds = stamp_of(images), 0.0
    try:
        with locked(file) if processes.is_first() else nullcontext():
            features = _read(file, stamp, (len(ids), model.channels)) if processes.is_first() else None
            if processes.on_first(lambda: features is not None):
                features = processes.share_tensor(features)
            else:
                began = time.perf_counter()
                features = _compute(model, plan, split, ids)
                seconds = time.perf_counter() - began
                if processes.is_first():
                    _write(file, features, stamp)
    except OSError as error:
        space = "free some space, or " if error.errno in DISK_FULL else ""
        raise UserError(
            f"the features {file} cannot be written: {error.strerror or error}; {space}choose another directory with "
            "paths.data=DIRECTORY"
        ) from error
    return FeatureBatches(features, ids, plan.protocol.batch_size), seconds


def _images(plan: Plan, split: Split, ids: np.ndarray) -> ResizedImages:
    paths = split.paths()
    boxes = split.boxes()[ids] if plan.protocol.crop_to_box else None
    upright = plan.protocol.exif_orientation == "applied"
    return ResizedImages([paths[image_id] for image_id in ids], plan.protocol.resized_px, boxes, upright)


def _digest(plan: Plan, images: ResizedImages) -> str:
    """16 hex digits over everything that determines a feature, except the content of the image files: see `stamp_of`."""
    protocol, installed = plan.protocol, versions()
    determining = {
        "version": VERSION,
        "images": name_of(images),
        **{name: getattr(protocol, name) for name in ("image_px", "crop_to_box", "pooling", "threads")},
        **{name: value for name, value in plan.shared.items() if name.startswith("trunk_")},
        "features": plan.method.features,
        "seed": plan.seed if plan.trunk.weights_sha256 is None else None,  # initialises a trunk without weights
        "precision": "fp32",
        "device": device_name(plan.device),
        "cpu_capability": cpu_columns()["cpu_capability"],
        **{name: installed[name] for name in ("torch_version", "torchvision_version", "dmlbench_version")},
        "timm_version": _timm_version(),
    }
    return digest(determining)[:16]


def _timm_version() -> str | None:
    try:
        return version("timm")
    except PackageNotFoundError:
        return None


def _compute(model: Embedder, plan: Plan, split: Split, ids: np.ndarray) -> torch.Tensor:
    batch_size = max(2, PIXELS[plan.device] // plan.protocol.image_px**2)
    batches = make_batches(replace(plan, protocol=replace(plan.protocol, batch_size=batch_size)), split)
    with model.at_layer("pooled"):
        return embed(model, batches, ids.tolist(), plan.device, unit=False)


def _read(file: Path, stamp: str, shape: tuple[int, int]) -> torch.Tensor | None:
    """The features in a file; None if it is missing, damaged, or computed from other image files."""
    try:
        open_regular(file).close()
        with safe_open(file, "pt") as opened:
            stored, _, sha256 = (opened.metadata() or {}).get("stamp", "").partition(" ")
            if stored != stamp:
                return None
            features: torch.Tensor = opened.get_tensor("features")
        if (features.shape, features.dtype) == (shape, torch.float32) and sha256 == checksum(features):
            return features
    except FileNotFoundError:
        return None
    except (NotARegularFileError, SafetensorError):
        pass
    tqdm.write(f"the features {file} are damaged; they are computed again", file=sys.stderr)
    return None


def checksum(features: torch.Tensor) -> str:
    """Return the SHA-256 of the bytes of features.

    Args:
        features: `(N, C)`, on the CPU.
    """
    return hashlib.sha256(features.contiguous().numpy().data).hexdigest()


def _write(file: Path, features: torch.Tensor, stamp: str) -> None:
    for leftover in file.parent.glob(f".{file.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    metadata = {"stamp": f"{stamp} {checksum(features)}"}  # one key, because several would have no order
    atomic_write(file, save({"features": features}, metadata))
