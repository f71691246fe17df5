"""Where a trunk's weights come from, their digest, and how they are loaded."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError, suggest
from dmlbench.system.download import download

# Not part of a trunk: the classifier, and a counter that older files lack.
_CLASSIFIER = ("fc.", "classifier.", "last_linear.", "AuxLogits.", "aux1.", "aux2.", "head.")
_COUNTER = "num_batches_tracked"


def weights_file(place: str, trunk: Trunk) -> Path | None:
    """The file that holds a trunk's weights, downloaded into torch's own cache where it has to be.

    Args:
        place: such as `trunk/resnet50`, for errors.
        trunk: its `weights` is `none`, a local file, or a name that its YAML or torchvision publishes for the architecture.

    Raises:
        UserError: there is no such file or name, the download failed, or the file has another hash than the published one.
    """
    if trunk.weights == "none":
        return None
    if Path(trunk.weights).is_file():
        return Path(trunk.weights)
    published = {**_torchvisions(trunk.make.get("architecture")), **trunk.published}
    if trunk.weights not in published:
        names = ["none", *published]
        near = suggest(trunk.weights, names)
        raise UserError(f"{place}: trunk.weights is '{trunk.weights}', neither a file nor a published name{near}")
    entry = published[trunk.weights]
    file = Path(torch.hub.get_dir()) / "checkpoints" / entry.get("file", entry["url"].rpartition("/")[2])
    hashes = {"sha256": entry["sha256"]} if "sha256" in entry else {}
    download(
        entry["url"], file, hashes, "name a local file with trunk.weights=FILE, or start from scratch with trunk.weights=none"
    )
    return file


def _torchvisions(architecture: str | None) -> dict[str, dict[str, str]]:
    """Name to address and hash of torchvision's weights for an architecture."""
    from torchvision.models import get_model_weights, list_models

    if architecture is None or architecture not in list_models():
        return {}
    entries = {name: entry.url for name, entry in get_model_weights(architecture).__members__.items()}
    # torchvision's file names end in the first digits of their sha256
    return {name: {"url": url, "sha256": Path(url).stem.rpartition("-")[2]} for name, url in entries.items()}


def sha256(file: Path) -> str:
    """The sha256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_weights(place: str, trunk: nn.Module, file: Path) -> None:
    """Load a state dict into a trunk; a classifier in the file is left out.

    Args:
        place: for errors.
        trunk: takes the weights, converted to its own dtype.
        file: a state dict, as torch saves it; read without running any code that it may hold.

    Raises:
        UserError: the file is no state dict, or is that of another architecture (what is missing, surplus or of another
            shape is counted, and the first is named).
    """
    own = trunk.state_dict()
    state = {name: _without_leading_ones(value, own.get(name)) for name, value in _read(place, file).items()}
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    surplus = [name for name in state if name not in own and not name.startswith(_CLASSIFIER)]
    misshapen = [name for name in own if name in state and own[name].shape != state[name].shape]
    faults = {"missing": missing, "unknown": surplus, "of another shape": misshapen}
    said = [f"{len(names)} tensors {fault} (first '{names[0]}')" for fault, names in faults.items() if names]
    if said:
        raise UserError(f"{place}: {file} holds the weights of another architecture: {', '.join(said)}")
    trunk.load_state_dict({name: state[name] for name in own if name in state}, strict=False)


def _without_leading_ones(value: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """The tensor in the shape of ours where it has but more leading dimensions of one, as BN-Inception's batch norm."""
    if like is not None and value.ndim > like.ndim and value.shape == (1,) * (value.ndim - like.ndim) + like.shape:
        return value.reshape(like.shape)
    return value


def _read(place: str, file: Path) -> dict[str, torch.Tensor]:
    try:
        state: Any = (
            load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{place}: {file} is no state dict that can be read safely: {str(error).splitlines()[0]}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{place}: {file} is no state dict: it should map names to tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
