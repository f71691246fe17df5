"""The embeddings of a run as NumPy arrays. The rows stay in their file: they are mapped into memory, not copied."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dmlbench.errors import UserError, describe_os_error
from dmlbench.results import run_files
from dmlbench.results.row import EXTERNAL, Row
from dmlbench.system.regular_files import open_regular, parse_json, sha256

_MAX_HEADER_BYTES = 2**23
# What `dmlbench train` writes: name of the tensor, dtype in the header, NumPy's dtype, number of axes.
_TENSORS = (
    ("embeddings", "F32", "<f4", 2),
    ("labels", "I64", "<i8", 1),
    ("ids", "I64", "<i8", 1),
    ("is_query", "BOOL", "|b1", 1),
    ("is_gallery", "BOOL", "|b1", 1),
)


@dataclass(frozen=True, eq=False)
class SavedEmbeddings:
    """N embeddings and the images that they belong to.

    Args:
        rows: float32 `(N, D)`.
        labels: int64 `(N,)`, class of each image.
        ids: int64 `(N,)`, unique.
        is_query: bool `(N,)`.
        is_gallery: bool `(N,)`.
    """

    rows: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    is_query: np.ndarray
    is_gallery: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def max_norm(self) -> float:
        """Largest Euclidean norm of a row."""
        squares = np.einsum("nd,nd->n", self.rows, self.rows, dtype=np.float64)
        return float(np.sqrt(squares.max(initial=0.0)))

    @cached_property
    def index(self) -> dict[int, int]:
        """Id to index of the row."""
        return {int(image_id): index for index, image_id in enumerate(self.ids)}


def read_saved(row: Row) -> SavedEmbeddings:
    """Read the embeddings of a finished run; of the first model if it has one per fold.

    Args:
        row: Row of the run, with its directory.

    Raises:
        UserError: The run has no embeddings, or the file is not what the run wrote.
    """
    refuse_without_embeddings(row)
    files = [folder / run_files.EMBEDDINGS for folder in model_directories(row)]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(f"{missing} does not exist, so there is nothing to draw; `dmlbench train` writes it")
    recorded = row.get("embeddings_sha256")  # rows of earlier versions do not have it
    try:
        if recorded is not None and sha256(*files) != recorded:
            raise UserError(
                f"{files[0]} cannot be drawn: the content is not what the run wrote (embeddings_sha256 in {run_files.ROW}); "
                f"restore it, or delete {run_files.ROW} and train the run again"
            )
        return map_embeddings(files[0])
    except OSError as error:
        raise UserError(describe_os_error(error)) from error


def model_directories(row: Row) -> list[Path]:
    """Return the directory of each model of a run, which has its embeddings and the scores of its queries.

    Args:
        row: Row of the run, with its directory.
    """
    assert row.folder is not None
    several = row.get("n_models", 1) != 1
    return [part for part in sorted(row.folder.glob("fold[0-9]*/")) if several and not part.is_symlink()] or [row.folder]


def refuse_without_embeddings(row: Row) -> None:
    """Refuse a row that has no embeddings of its own.

    Args:
        row: Row of a run.

    Raises:
        UserError: The run failed, or the row is that of an evaluation.
    """
    if not row.ok:
        raise UserError(f"{row.folder} has no embeddings to draw because the run failed: {row.get('reason')}")
    if row["protocol"] == EXTERNAL:
        raise UserError(
            f"{row.folder} is the row of an external file, which it does not contain; name that file: "
            "dmlbench show FILE --pictures OUT.png"
        )
    if row.get("parent") is not None:
        run = None if row.folder is None else row.folder.parent
        raise UserError(f"{row.folder} is an evaluation without embeddings; name its run, {run}")


def map_embeddings(file: Path) -> SavedEmbeddings:
    """Map a file that `dmlbench train` wrote into memory.

    Args:
        file: Safetensors file with the keys of `SavedEmbeddings` and `embeddings`.

    Raises:
        UserError: It is something else, or truncated.
        OSError: It cannot be opened, or is not a regular file.
    """
    with open_regular(file) as stream:
        try:
            arrays = dict(_arrays(stream))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{file} cannot be read as the embeddings of a run: {str(error).splitlines()[0]}") from None
    rows = arrays.pop("embeddings")
    found = SavedEmbeddings(rows, **arrays)
    fits = len({len(rows), *map(len, arrays.values())}) == 1 and len(np.unique(found.ids)) == len(rows)
    if not fits or not rows.size or not found.is_query.any() or not found.is_gallery.any():
        raise UserError(f"{file} cannot be read as the embeddings of a run: its parts do not fit together")
    return found


def _arrays(stream: Any) -> list[tuple[str, np.ndarray]]:
    (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\xff"))
    size = stream.seek(0, 2)
    if length > min(_MAX_HEADER_BYTES, size):
        raise ValueError("its header is longer than the file")
    stream.seek(8)
    header = parse_json(stream.read(length))
    found = []
    for name, kind, dtype, axes in _TENSORS:
        shape, (begin, end) = tuple(header[name]["shape"]), header[name]["data_offsets"]
        if (
            header[name]["dtype"] != kind
            or len(shape) != axes
            or not all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        ):
            raise ValueError(f"'{name}' has another dtype or shape")
        if end - begin != int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize or 8 + length + end > size:
            raise ValueError(f"'{name}' is truncated")
        array = np.memmap(stream, dtype, "r", 8 + length + begin, shape) if end > begin else np.zeros(shape, dtype)
        found.append((name, array if name == "embeddings" else np.array(array)))
    return found


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length; rows of zeros stay as they are.

    Args:
        rows: Numbers `(N, D)`.

    Returns:
        float32 `(N, D)`.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)


def read_external(file: Path) -> SavedEmbeddings:
    """Read a file of embeddings from elsewhere, and scale its rows to unit length.

    This imports torch, because the checks of such files are those of `dmlbench evaluate`.

    Args:
        file: `.safetensors`, `.npz` or `.npy`; see `evaluation.embedding_files.load_embeddings`.

    Raises:
        UserError: The file cannot be read.
    """
    from dmlbench.evaluation.embedding_files import load_embeddings

    found = load_embeddings(file, follow_links=True)
    rows = unit_rows(found.rows[: len(found)].numpy())
    return SavedEmbeddings(rows, found.labels.numpy(), found.ids.numpy(), found.is_query.numpy(), found.is_gallery.numpy())
