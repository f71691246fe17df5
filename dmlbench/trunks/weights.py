"""Where a trunk's weights come from, their digest, and how they are loaded."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from dmlbench.errors import UserError, suggest

# Not part of a trunk: the classifier, and a counter that older files lack.
_CLASSIFIER = ("fc.", "classifier.", "last_linear.", "AuxLogits.", "head.")
_COUNTER = "num_batches_tracked"


def weights_file(place: str, weights: str, architecture: str | None) -> Path | None:
    """The file that holds a trunk's weights, downloaded into torch's own cache where it has to be.

    Args:
        place: such as `trunk/resnet50`, for errors.
        weights: `none`, a local file, or a name that torchvision publishes for the architecture.
        architecture: torchvision's name of the model; None for a trunk that torchvision does not know.

    Raises:
        UserError: there is no such file or name, or the download failed.
    """
    if weights == "none":
        return None
    if Path(weights).is_file():
        return Path(weights)
    published = _published(architecture)
    if weights not in published:
        names = ["none", *published]
        raise UserError(f"{place}: trunk.weights is '{weights}', neither a file nor a published name{suggest(weights, names)}")
    return _downloaded(place, weights, published[weights])


def _published(architecture: str | None) -> dict[str, str]:
    """Name to address of torchvision's weights for an architecture."""
    from torchvision.models import get_model_weights, list_models

    if architecture is None or architecture not in list_models():
        return {}
    return {name: entry.url for name, entry in get_model_weights(architecture).__members__.items()}


def _downloaded(place: str, weights: str, url: str) -> Path:
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        digits = file.stem.rpartition("-")[2]  # torchvision's file names end in the first digits of their sha256
        try:
            torch.hub.download_url_to_file(url, str(file), hash_prefix=digits)
        except (URLError, OSError, RuntimeError) as error:
            raise UserError(
                f"{place}: {weights} is not at {file} and could not be downloaded from {url} ({error}); put the file there, "
                "name a local one with trunk.weights=FILE, or start from scratch with trunk.weights=none"
            ) from error
    return file


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
    state = _read(place, file)
    own = trunk.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    surplus = [name for name in state if name not in own and not name.startswith(_CLASSIFIER)]
    misshapen = [name for name in own if name in state and own[name].shape != state[name].shape]
    faults = {"missing": missing, "unknown": surplus, "of another shape": misshapen}
    said = [f"{len(names)} tensors {fault} (first '{names[0]}')" for fault, names in faults.items() if names]
    if said:
        raise UserError(f"{place}: {file} holds the weights of another architecture: {', '.join(said)}")
    trunk.load_state_dict({name: state[name] for name in own if name in state}, strict=False)


def _read(place: str, file: Path) -> dict[str, torch.Tensor]:
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{place}: {file} is no state dict that can be read safely: {str(error).splitlines()[0]}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{place}: {file} is no state dict: it should map names to tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}
