"""Find, verify and load the weights of a trunk."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from dmlbench.config.schema import Trunk
from dmlbench.errors import UserError, suggest
from dmlbench.system.download import download

# Entries of weight files that no trunk needs: classifiers, and a counter that older files lack.
_CLASSIFIER = ("fc.", "classifier.", "last_linear.", "AuxLogits.", "aux1.", "aux2.", "head.")
_COUNTER = "num_batches_tracked"


def weights_file(name: str, trunk: Trunk) -> Path | None:
    """Return the file of a trunk's weights. Published weights are downloaded into the cache of torch if they are not there.

    Args:
        name: Name of the trunk in errors, such as `trunk/resnet50`.
        trunk: Its `weights` is `none`, a local file, or the name of weights that its configuration file or torchvision
            publishes for the architecture.

    Returns:
        The file; None without weights.

    Raises:
        UserError: There is no such file or name, the download failed, or the file does not have the published hash.
    """
    if trunk.weights == "none":
        return None
    if Path(trunk.weights).is_file():
        return Path(trunk.weights)
    published = {**_torchvision_weights(trunk.make.get("architecture")), **trunk.published}
    if trunk.weights not in published:
        similar = suggest(trunk.weights, ["none", *published])
        raise UserError(f"{name}: trunk.weights is '{trunk.weights}', neither a file nor a published name{similar}")
    entry = published[trunk.weights]
    file = Path(torch.hub.get_dir()) / "checkpoints" / entry.get("file", entry["url"].rpartition("/")[2])
    hashes = {"sha256": entry["sha256"]} if "sha256" in entry else {}
    download(
        entry["url"], file, hashes, "name a local file with trunk.weights=FILE, or start from scratch with trunk.weights=none"
    )
    return file


def _torchvision_weights(architecture: str | None) -> dict[str, dict[str, str]]:
    """The weights that torchvision publishes for an architecture: name to URL and SHA-256."""
    from torchvision.models import get_model_weights, list_models

    if architecture is None or architecture not in list_models():
        return {}
    entries = {name: entry.url for name, entry in get_model_weights(architecture).__members__.items()}
    # The file names of torchvision end with the first digits of the SHA-256.
    return {name: {"url": url, "sha256": Path(url).stem.rpartition("-")[2]} for name, url in entries.items()}


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Args:
        file: File to read.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_weights(name: str, trunk: nn.Module, file: Path) -> None:
    """Load a state dict into a trunk. The classifier in the file is skipped.

    Args:
        name: Name of the trunk in errors, such as `trunk/resnet50`.
        trunk: Receives the weights, converted to its dtype.
        file: A state dict, saved by torch or safetensors. It is read without executing code that it may contain.

    Raises:
        UserError: The file is not a state dict, or belongs to another architecture. The message counts the tensors that are
            missing, unknown or of another shape, and names the first of each.
    """
    wanted = trunk.state_dict()
    state = {key: _drop_leading_ones(value, wanted.get(key)) for key, value in _read(name, file).items()}
    missing = [key for key in wanted if key not in state and not key.endswith(_COUNTER)]
    unknown = [key for key in state if key not in wanted and not key.startswith(_CLASSIFIER)]
    misshapen = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]
    differences = {"missing": missing, "unknown": unknown, "of another shape": misshapen}
    counts = [f"{len(keys)} tensors {problem} (first '{keys[0]}')" for problem, keys in differences.items() if keys]
    if counts:
        raise UserError(f"{name}: {file} contains the weights of another architecture: {', '.join(counts)}")
    trunk.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def _drop_leading_ones(value: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """Drop leading dimensions of size 1 that the trunk's tensor does not have, as in the batch norms of BN-Inception's file."""
    if like is not None and value.ndim > like.ndim and value.shape == (1,) * (value.ndim - like.ndim) + like.shape:
        return value.reshape(like.shape)
    return value


def _read(name: str, file: Path) -> dict[str, torch.Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats that are then refused
            state: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except Exception as error:  # a file that is not a state dict may raise anything
        raise UserError(f"{name}: {file} is not a state dict that can be read safely: {_reason(file, error)}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    is_state_dict = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not is_state_dict or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{name}: {file} is not a state dict, which maps names to tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _is_of_torch(file: Path) -> bool:
    """Whether a file begins as those of `torch.save`: a ZIP archive or, before torch 1.6, a pickle of protocol 2."""
    with file.open("rb") as stream:
        return stream.read(4).startswith((b"PK\x03\x04", b"\x80\x02"))


def _reason(file: Path, error: Exception) -> str:
    """Why a file cannot be read, without the advice of torch to read it unsafely."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if file.stat().st_size == 0:
        return "it is empty"
    if file.suffix != ".safetensors" and not _is_of_torch(file):
        return "it is a file of neither torch nor safetensors"
    if isinstance(error, pickle.UnpicklingError):
        return (
            "it contains more than tensors, and other objects may execute code; "
            "save the state dict of the model, and nothing else"
        )
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
