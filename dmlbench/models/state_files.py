"""Files of tensors that training writes: checkpoints and models. Nothing in them is executed, and damage is noticed.

They are ZIP archives in the format of `torch.save`, whose entries carry a CRC-32 of their content. torch writes it and does not
compare it; `load_state` does.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.regular_files import open_regular, read_bytes

_ZIP = b"PK\x03\x04"
_MAX_TENSOR_BYTES = 4 * 2**30


class UnreadableStateError(Exception):
    """A file of tensors cannot be read. The text is a clause."""


def save_state(file: Path, state: dict[str, Any]) -> None:
    """Write a state that `load_state` reads. Equal states give equal files.

    Args:
        file: File to write.
        state: Tensors and plain Python values.
    """
    atomic_write(file, lambda stream: torch.save(state, stream))


def load_state(file: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a state, after comparing its content with the checksums in the file.

    Args:
        file: A regular file.
        device: Device of the tensors.

    Returns:
        The state: tensors and plain Python values.

    Raises:
        UnreadableStateError: It is not a regular file, is damaged, or contains something else.
    """
    try:
        with open_regular(file) as stream:
            _verify(stream)
            stream.seek(0)
            state = torch.load(stream, map_location=device, weights_only=True)
    except OSError as error:
        raise UnreadableStateError(error.strerror or "it cannot be read") from error
    except UnreadableStateError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise UnreadableStateError("it is damaged, or not a file of tensors") from error
    if not isinstance(state, dict):
        raise UnreadableStateError("it is not a file of tensors by name")
    return state


def load_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file of weights.

    Args:
        file: A regular file.

    Returns:
        Tensors by name.

    Raises:
        UnreadableStateError: It is not a regular file of this format, or is damaged.
    """
    from safetensors.torch import load

    try:
        return load(read_bytes(file, _MAX_TENSOR_BYTES))
    except OSError as error:
        raise UnreadableStateError(error.strerror or "it cannot be read") from error
    except Exception as error:  # a damaged file may raise anything
        raise UnreadableStateError("it is damaged, or not a safetensors file") from error


def _verify(stream: BinaryIO) -> None:
    """Compare the content of an archive with its checksums."""
    if stream.read(len(_ZIP)) != _ZIP:  # torch would read any other file in a format without checksums
        raise UnreadableStateError("it is not a file of tensors")
    with zipfile.ZipFile(stream) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):  # torch does not compress
            raise UnreadableStateError("it is not a file of tensors")
        if archive.testzip() is not None:
            raise UnreadableStateError("its content does not have the checksum in the file")
