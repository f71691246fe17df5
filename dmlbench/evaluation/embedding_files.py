"""Read and write embeddings with labels, ids and roles.

`.safetensors` and `.npz` files have the keys `embeddings`, `labels` and optionally `ids`, `is_query`, `is_gallery`. A `.npy`
file contains the embeddings only; a CSV file beside it has the other keys as columns.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from dmlbench.errors import UserError, suggest
from dmlbench.evaluation.embedding_checks import validated_embeddings
from dmlbench.evaluation.embeddings import Embeddings, FileRows
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.regular_files import open_regular, parse_json

__all__ = ["KEYS", "SUFFIXES", "Embeddings", "FileRows", "load_embeddings", "save_embeddings", "save_tensors"]

KEYS = ("embeddings", "labels", "ids", "is_query", "is_gallery")
SUFFIXES = (".safetensors", ".npz", ".npy")
# Larger matrices stay in their file and are read in parts, again for each use. They are not memory-mapped, because mapped
# pages count as memory of the process.
_MAX_BYTES_IN_MEMORY = 2**28
_MAX_HEADER_BYTES = 2**23
_MAX_CSV_BYTES = 2**28  # names of ten million images
# An .npz file may unpack to this size, or to a hundred times its own size. Masks and labels shrink more than embeddings.
_MAX_UNPACKED_BYTES, _MAX_UNPACKED_RATIO = 2**30, 100
_DTYPES = {
    **{"F32": "<f4", "F64": "<f8", "F16": "<f2", "BOOL": "|b1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
}


def load_embeddings(file: Path, labels_file: Path | None = None, follow_links: bool = False) -> Embeddings:
    """Read a file of embeddings.

    Args:
        file: `.safetensors`, `.npz` or `.npy`.
        labels_file: CSV file that goes with a `.npy` file. None for the file's own name with the suffix `.csv`.
        follow_links: Whether the files may be links, as files that a user names may be.

    Raises:
        UserError: The file has another suffix, is not a regular file, is corrupt, contains pickled objects, lacks a key, or
            its parts do not fit together.
    """
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {
        ".safetensors": _read_safetensors,
        ".npz": _read_npz,
        ".npy": _read_npy,
    }
    if file.suffix not in readers:
        raise UserError(f"{file} is not a file of embeddings; its name must end in {', '.join(SUFFIXES)}")
    try:
        _refuse_special(file, follow_links)
        found = dict(readers[file.suffix](file))
        if file.suffix == ".npy":
            found |= _read_csv(labels_file or file.with_suffix(".csv"), follow_links)
        elif labels_file is not None:
            raise UserError(f"{file} contains its own labels; a CSV file of labels is for .npy files only")
        return validated_embeddings(file, found)
    except UserError:
        raise
    except Exception as error:  # NumPy, zipfile, zlib and tokenize raise many kinds for corrupt and encrypted files
        raise UserError(f"{file} cannot be read as embeddings: {_reason(error)}") from None


def _refuse_special(file: Path, follow_links: bool, max_bytes: int | None = None) -> None:
    open_regular(file.resolve() if follow_links else file, max_bytes).close()


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip() or "it is corrupt").splitlines()[0]


def _read_safetensors(file: Path) -> dict[str, Any]:
    """Read tensors as the header describes them. The safetensors library would map the whole file into memory."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))
        if length > min(_MAX_HEADER_BYTES, file.stat().st_size):
            raise ValueError("its header is longer than the file; it is truncated, or not a safetensors file")
        header = parse_json(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is not a JSON object; it is not a safetensors file")
        found: dict[str, Any] = {}
        for name in KEYS:
            if name in header:
                begin, end = header[name]["data_offsets"]
                shape, dtype = tuple(header[name]["shape"]), header[name]["dtype"]
                if dtype not in _DTYPES:
                    raise ValueError(f"'{name}' has the dtype {dtype}; known: {', '.join(_DTYPES)}")
                if not all(isinstance(number, int) and number >= 0 for number in (begin, end, *shape)):
                    raise ValueError(f"the header of '{name}' contains an invalid shape or offset")
                size = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
                if end - begin != size or 8 + length + end > file.stat().st_size:
                    raise ValueError(f"'{name}' is truncated")
                found[name] = _read_array(file, 8 + length + begin, _DTYPES[dtype], shape)
    return _require_keys(file, found, header)


def _read_npz(file: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(file):
        raise ValueError("it is not an .npz archive, or it is truncated")
    with zipfile.ZipFile(file) as members:
        unpacked = sum(member.file_size for member in members.infolist())
    if unpacked > max(_MAX_UNPACKED_BYTES, _MAX_UNPACKED_RATIO * file.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked:,} bytes, too many for its size; save it as .safetensors")
    with np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is not an .npz archive")
        found = {}
        for name in KEYS:
            if name in archive:
                try:
                    found[name] = archive[name]
                except ValueError:
                    raise ValueError(
                        f"'{name}' is corrupt, or contains pickled Python objects, which are never loaded"
                    ) from None
        return _require_keys(file, found, archive)


def _read_npy(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        offset = stream.tell()
    if dtype.hasobject:
        raise ValueError("it contains pickled Python objects, which are never loaded")
    if min(shape, default=0) < 0 or offset + math.prod(shape) * dtype.itemsize > file.stat().st_size:
        raise ValueError("it is truncated")
    if fortran:
        return {"embeddings": np.load(file, allow_pickle=False)}
    return {"embeddings": _read_array(file, offset, dtype.str, shape)}


def _read_array(file: Path, offset: int, dtype: str, shape: tuple[int, ...]) -> Any:
    """Read an array of a file; a large matrix of floats stays in the file."""
    n = math.prod(shape)
    if len(shape) == 2 and np.dtype(dtype).kind == "f" and n * np.dtype(dtype).itemsize > _MAX_BYTES_IN_MEMORY:
        return FileRows(file, offset, dtype, (shape[0], shape[1]))
    return np.fromfile(file, np.dtype(dtype), n, offset=offset).reshape(shape)


def _read_csv(file: Path, follow_links: bool) -> dict[str, Any]:
    if not os.path.lexists(file):
        raise UserError(
            f"{file} does not exist; an .npy file needs a CSV file with a column 'labels', which --labels FILE.csv names"
        )
    import pandas as pd  # slow to import, and only needed here

    try:
        _refuse_special(file, follow_links, _MAX_CSV_BYTES)
        frame = pd.read_csv(file, keep_default_na=False)  # a class may have the name NA
    except Exception as error:
        raise UserError(f"{file} cannot be read as a CSV file: {_reason(error)}") from None
    if "labels" in frame and len(empty := np.flatnonzero(frame["labels"].astype(str).str.strip() == "")):
        raise UserError(f"{file}: {len(empty)} labels are empty (first: row {empty[0]})")
    return _require_keys(file, {name: frame[name].to_numpy() for name in KEYS[1:] if name in frame}, frame.columns, KEYS[1:])


def _require_keys(file: Path, found: dict[str, Any], names: Any, wanted: tuple[str, ...] = KEYS) -> dict[str, Any]:
    """Return what was read, if no required key is missing."""
    for name in wanted:
        if name in ("embeddings", "labels") and name not in found:
            others = [str(other) for other in names if other != "__metadata__"]
            similar = suggest(name, others).partition("; known")[0]  # all keys follow
            raise UserError(f"{file} has no '{name}'{similar}; it has {', '.join(others) or 'nothing'}")
    return found


def save_embeddings(file: Path, embeddings: Embeddings) -> None:
    """Write embeddings as a safetensors file, atomically.

    Args:
        file: Path of the file.
        embeddings: Embeddings to write.
    """
    whole = embeddings.in_memory()
    tensors = {"embeddings": cast(Tensor, whole.rows), "labels": whole.labels, "ids": whole.ids}
    # One tensor may have both roles; safetensors refuses tensors that share memory.
    save_tensors(file, {**tensors, "is_query": whole.is_query, "is_gallery": whole.is_gallery.clone()})


def save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a safetensors file, atomically.

    Args:
        file: Path of the file.
        tensors: Name to tensor.
    """
    from safetensors.torch import save

    atomic_write(file, save({name: values.contiguous() for name, values in tensors.items()}))
