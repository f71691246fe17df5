"""Embeddings with their labels, ids and roles, in memory or in a file: what is judged, whoever made it.

`.safetensors` and `.npz` hold the keys `embeddings`, `labels` and, if wanted, `ids`, `is_query`, `is_gallery`; `.npy` holds the
embeddings alone, and a CSV beside it the rest, a column each. Rows that are neither query nor gallery are training rows:
only what may be fitted on training data sees them.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from dmlbench.errors import UserError, suggest
from dmlbench.evaluation.gallery import Rows
from dmlbench.evaluation.ranking import Ranking, rank
from dmlbench.system.atomic_write import atomic_write

KEYS = ("embeddings", "labels", "ids", "is_query", "is_gallery")
SUFFIXES = (".safetensors", ".npz", ".npy")
# Larger files are read in parts, again for each use, and not mapped: what is mapped counts as the process's own memory.
_MOST_IN_MEMORY = 2**28
_MOST_HEADER = 100 * 2**20  # bytes, the limit of safetensors itself
_DTYPES = {
    **{"F32": "<f4", "F64": "<f8", "F16": "<f2", "BOOL": "|b1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
}
# What torn, forged and encrypted files make their readers raise.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """N embeddings and what they are of.

    Args:
        rows: float32 `(N, D)`, a tensor or a file of them.
        labels: int64 `(N,)`.
        ids: int64 `(N,)`, each once.
        is_query: bool `(N,)`.
        is_gallery: bool `(N,)`.
    """

    rows: Rows
    labels: Tensor
    ids: Tensor
    is_query: Tensor
    is_gallery: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def ranking(self, depth: int, progress: bool = False) -> Ranking:
        """Rank the gallery for each query, `depth` ranks at least."""
        queries = self.only(self.is_query)
        gallery = queries if self.is_query.equal(self.is_gallery) else self.only(self.is_gallery)
        return rank(
            queries.rows, gallery.rows, queries.labels, gallery.labels, queries.ids, gallery.ids, depth, progress=progress
        )

    def only(self, which: Tensor) -> Embeddings:
        """Those where `which`, bool `(N,)`, is true, in the same order; nothing is read or copied where that is all."""
        if which.all():
            return self
        return self.in_order(which.nonzero().squeeze(1))

    def in_order(self, places: Tensor) -> Embeddings:
        """Those at some places, int64, in that order."""
        rows = self.rows[places] if isinstance(self.rows, Tensor) else _Picked(self.rows, places)
        return Embeddings(rows, self.labels[places], self.ids[places], self.is_query[places], self.is_gallery[places])

    @property
    def evaluated(self) -> Embeddings:
        """Queries and gallery, without training rows."""
        return self.only(self.is_query | self.is_gallery)

    @property
    def training(self) -> Embeddings:
        """The rows that are neither."""
        return self.only(~(self.is_query | self.is_gallery))

    def in_memory(self) -> Embeddings:
        """The same with its rows as a tensor."""
        return self if isinstance(self.rows, Tensor) else replace(self, rows=self.rows[: len(self)])


@dataclass(frozen=True, eq=False)
class FileRows:
    """A matrix in a file, read where it is asked for.

    Args:
        file: which.
        offset: in bytes, where the first row starts.
        dtype: NumPy's name of the components, row after row.
        size: N and D.
    """

    file: Path
    offset: int
    dtype: str
    size: tuple[int, int]

    @property
    def shape(self) -> torch.Size:
        """N and D."""
        return torch.Size(self.size)

    @property
    def device(self) -> torch.device:
        """Where they are searched."""
        return torch.device("cpu")

    def __len__(self) -> int:
        return self.size[0]

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        if isinstance(rows, slice):
            begin, end, _ = rows.indices(len(self))
            return self._read(begin, max(begin, end))
        if not len(rows):
            return self._read(0, 0)
        if (rows[1:] - rows[:-1] == 1).all():
            return self._read(int(rows[0]), int(rows[-1]) + 1)
        wanted, back = rows.unique(return_inverse=True)  # ascending
        cuts = ((wanted[1:] - wanted[:-1]) > 1).nonzero().squeeze(1) + 1
        runs = wanted.tensor_split(cuts)
        return torch.cat([self._read(int(run[0]), int(run[-1]) + 1) for run in runs])[back]

    def _read(self, begin: int, end: int) -> Tensor:
        width, item = self.size[1], np.dtype(self.dtype)
        values = np.fromfile(self.file, item, (end - begin) * width, offset=self.offset + begin * width * item.itemsize)
        return torch.from_numpy(values.reshape(end - begin, width).astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Picked:
    """Some rows of a file."""

    rows: Rows
    places: Tensor

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.places), self.rows.shape[1]))

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: slice | Tensor, /) -> Tensor:
        return self.rows[self.places[rows]]


def load_embeddings(file: Path, labels_file: Path | None = None) -> Embeddings:
    """Read anyone's embeddings.

    Args:
        file: `.safetensors`, `.npz` or `.npy`.
        labels_file: the CSV that goes with a `.npy`; by default the file's own name with `.csv`.

    Raises:
        UserError: the file is of another kind, torn, holds pickled objects, lacks a key, or its parts do not fit together.
    """
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {".safetensors": _safetensors, ".npz": _npz, ".npy": _npy}
    if file.suffix not in readers:
        raise UserError(f"{file} is no file of embeddings; those end in {', '.join(SUFFIXES)}")
    try:
        found = dict(readers[file.suffix](file))
        if file.suffix == ".npy":
            found |= _csv(labels_file or file.with_suffix(".csv"))
        elif labels_file is not None:
            raise UserError(f"{file} holds its own labels; a CSV of labels goes with a .npy")
        return _checked(file, found)
    except _UNREADABLE as error:
        reason = (
            error.strerror if isinstance(error, OSError) and error.strerror else (str(error) or "it is torn").splitlines()[0]
        )
        raise UserError(f"{file} cannot be read as embeddings: {reason}") from None


def _safetensors(file: Path) -> dict[str, Any]:
    """The tensors of a file as its header describes them; `safetensors` itself would map the file into memory."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))
        if length > min(_MOST_HEADER, file.stat().st_size):
            raise ValueError("its header is longer than the file; it is torn, or no safetensors file")
        header = json.loads(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no object; it is no safetensors file")
        found: dict[str, Any] = {}
        for name in KEYS:
            if name in header:
                begin, end = header[name]["data_offsets"]
                shape, dtype = tuple(header[name]["shape"]), header[name]["dtype"]
                if dtype not in _DTYPES:
                    raise ValueError(f"{name} are of the type {dtype}; known are {', '.join(_DTYPES)}")
                if not all(isinstance(number, int) and number >= 0 for number in (begin, end, *shape)):
                    raise ValueError(f"the header of {name} holds what is no size")
                size = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
                if end - begin != size or 8 + length + end > file.stat().st_size:
                    raise ValueError(f"{name} is cut short; the file is torn")
                found[name] = _array(file, 8 + length + begin, _DTYPES[dtype], shape)
    return _known(file, found, header)


def _npz(file: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no .npz archive, or it is torn")
    with np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is no .npz archive")
        found = {}
        for name in KEYS:
            if name in archive:
                try:
                    found[name] = archive[name]
                except ValueError:
                    raise ValueError(f"{name} are pickled Python objects, which are never loaded, or torn") from None
        return _known(file, found, archive)


def _npy(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        offset = stream.tell()
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, which are never loaded")
    if fortran:
        return {"embeddings": np.load(file, allow_pickle=False)}
    if offset + math.prod(shape) * dtype.itemsize > file.stat().st_size:
        raise ValueError("it is cut short")
    return {"embeddings": _array(file, offset, dtype.str, shape)}


def _array(file: Path, offset: int, dtype: str, shape: tuple[int, ...]) -> Any:
    """An array of a file; a large matrix stays there."""
    n = math.prod(shape)
    if len(shape) == 2 and np.dtype(dtype).kind == "f" and n * np.dtype(dtype).itemsize > _MOST_IN_MEMORY:
        return FileRows(file, offset, dtype, (shape[0], shape[1]))
    return np.fromfile(file, np.dtype(dtype), n, offset=offset).reshape(shape)


def _csv(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"{file} is no file; the labels of a .npy stand in a CSV: labels=FILE.csv, with a column 'labels'")
    import pandas as pd  # for this alone, and slow to import

    try:
        frame = pd.read_csv(file, keep_default_na=False)  # a class may be called NA
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read as a CSV: {str(error).splitlines()[0]}") from None
    if "labels" in frame and len(empty := np.flatnonzero(frame["labels"].astype(str).str.strip() == "")):
        raise UserError(f"{file}: {len(empty)} labels are empty (first: row {empty[0]})")
    return _known(file, {name: frame[name].to_numpy() for name in KEYS[1:] if name in frame}, frame.columns, KEYS[1:])


def _known(file: Path, found: dict[str, Any], names: Any, wanted: tuple[str, ...] = KEYS) -> dict[str, Any]:
    """What was found, if the keys that must be there are."""
    for name in wanted:
        if name in ("embeddings", "labels") and name not in found:
            there = [str(other) for other in names if other != "__metadata__"]
            raise UserError(f"{file} has no '{name}'{suggest(name, there)}; it has {', '.join(there) or 'nothing'}")
    return found


def _checked(file: Path, found: Mapping[str, Any]) -> Embeddings:
    rows = found["embeddings"]
    if not isinstance(rows, FileRows):
        if rows.ndim != 2 or rows.dtype.kind not in "fiu":
            raise UserError(f"{file}: embeddings are numbers (N, D), not {rows.dtype} of the shape {tuple(rows.shape)}")
        rows = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    n = len(rows)
    if not n or not rows.shape[1]:
        raise UserError(f"{file}: embeddings have the shape {tuple(rows.shape)}; there is nothing to compare")
    labels = _whole(file, "labels", found["labels"], n)
    ids = _whole(file, "ids", found["ids"], n) if "ids" in found else torch.arange(n)
    distinct, counts = ids.unique(return_counts=True)
    if len(distinct) < n:
        raise UserError(f"{file}: the id {int(distinct[counts > 1][0])} stands more than once")
    roles = {name: _yes_or_no(file, name, found[name], n) for name in ("is_query", "is_gallery") if name in found}
    everyone = torch.ones(n, dtype=torch.bool)
    if "is_query" not in roles and "is_gallery" in roles:
        raise UserError(f"{file} has is_gallery and no is_query; it needs both, or is_query alone")
    is_query = roles.get("is_query", everyone)
    is_gallery = roles.get("is_gallery", everyone if "is_query" not in roles else ~is_query)
    for name, role in (("is_query", is_query), ("is_gallery", is_gallery)):
        if not role.any():
            without = "; without is_gallery the gallery is what is no query" if "is_gallery" not in roles else ""
            raise UserError(f"{file}: no row has {name}{without}")
    return Embeddings(rows, labels, ids, is_query, is_gallery)


def _whole(file: Path, name: str, values: np.ndarray, n: int) -> Tensor:
    _fitting(file, name, values, n)
    if values.dtype.kind == "u" and len(values) and values.max() > np.iinfo(np.int64).max:
        raise UserError(f"{file}: {name} hold {values.max()}, which is beyond int64")
    if values.dtype.kind not in "iu":
        if name == "labels" and values.dtype.kind in "OU":  # names of classes, from a CSV or an .npz
            return torch.from_numpy(np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64))
        raise UserError(f"{file}: {name} are {values.dtype}; they must be whole numbers")
    return torch.from_numpy(values.astype(np.int64))


def _yes_or_no(file: Path, name: str, values: np.ndarray, n: int) -> Tensor:
    _fitting(file, name, values, n)
    if values.dtype.kind not in "biu" or not np.isin(values, (0, 1)).all():
        raise UserError(f"{file}: {name} must be true or false (0 or 1) for each row")
    return torch.from_numpy(values.astype(bool))


def _fitting(file: Path, name: str, values: np.ndarray, n: int) -> None:
    if values.shape != (n,):
        raise UserError(f"{file}: {n} embeddings, but {name} have the shape {tuple(values.shape)}; they need one each")


def save_embeddings(file: Path, embeddings: Embeddings) -> None:
    """Write embeddings as safetensors, by rename."""
    whole = embeddings.in_memory()
    tensors = {"embeddings": cast(Tensor, whole.rows), "labels": whole.labels, "ids": whole.ids}
    save_tensors(file, {**tensors, "is_query": whole.is_query, "is_gallery": whole.is_gallery})


def save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save

    atomic_write(file, save({name: values.contiguous() for name, values in tensors.items()}))
