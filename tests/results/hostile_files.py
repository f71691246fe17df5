"""Hostile files for the reading commands, each with a name: rows, plans, histories, class names, scores and special files."""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from rows_factory import make_row
from safetensors.numpy import save

Change = Callable[[Path], object]  # makes the files of a run directory hostile

DEEP = "[" * 100_000
NEARLY_TOO_DEEP = "[" * 900 + "]" * 900
HUGE = "1" + "0" * 400
LARGE = 10**299
ESCAPES = "a\x1bc\x9b2J\x07\r\u202eb\n| x |\u2066"
HALF_SURROGATE = '"\\ud800"'


class Executes:
    """An object whose unpickling creates the file `executed` in the current directory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def replaced(name: str, content: str | bytes) -> Change:
    """Return a function that replaces a file of a run."""
    return lambda run: (run / name).write_bytes(content.encode() if isinstance(content, str) else content)


# --- rows

RAW_ROWS: dict[str, str | bytes] = {
    "empty": "",
    "blank": " \n",
    "null": "null",
    "number": "1",
    "text": '"row"',
    "list": "[]",
    "empty object": "{}",
    "open brace": "{",
    "deep lists": DEEP,
    "deep objects": '{"a":' * 100_000,
    "deep and closed": NEARLY_TOO_DEEP,
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "null bytes": bytes(1000),
    "executable": b"\x7fELF" + bytes(range(256)),
    "pickle": pickle.dumps(Executes()),
    "HTML": "<html><script>alert(1)</script></html>",
    "many brackets": "[" + "[]," * 200_000 + "[]]",
}


def torn_rows() -> Iterator[tuple[str, str]]:
    """A good row, cut after some of its bytes."""
    text = json.dumps(dict(make_row(loss="triplet").columns))
    yield from ((f"cut after {share} %", text[: len(text) * share // 100]) for share in (1, 10, 50, 99))
    yield from (("twice", text * 2), ("with a second line", text + "\nx"))


COLUMNS: dict[str, Any] = {
    **{
        f"{name} is {value!r}"[:60]: {name: value}
        for name in ("schema_version", "run_id", "seed", "status", "loss", "dataset", "protocol", "fingerprint")
        for value in (None, -1, LARGE, [], "\x1b[31m")
    },
    **{
        f"{name} is {value!r}"[:60]: {name: value}
        for name in ("recall_at_1", "map_at_r", "train_seconds", "effective_rank", "n_proxies", "oracle_map_at_r")
        for value in (1e308, -1e308, LARGE, float("nan"), float("inf"), "1", True)
    },
    **{
        f"a text in {name}": {name: ESCAPES}
        for name in ("loss_label", "reason", "trunk_label", "device", "overrides", "finished_at")
    },
    **{
        f"{what} in {name}": {name: text}
        for name in ("overrides", "config_files", "selected_epoch")
        for what, text in (
            ("deep JSON", DEEP),
            ("a huge number", HUGE),
            ("half a character", HALF_SURROGATE),
            ("a list", "[[1], {}]"),
        )
    },
    "a nested object": {"loss_make_x": {"a": {"b": 1}}},
    "a name with control characters": {ESCAPES: 1, "loss_make_\x1b[2J": 2},
    "an empty name": {"": 1},
    "a formula": {"loss_label": "=cmd|' /C calc'!A0", "=HYPERLINK(0)": "@SUM(1)"},
    "a long label": {"loss_label": "x" * 500_000},
    "many columns": {f"loss_make_{i}": i for i in range(20_000)},
    "metrics with impossible names": {f"recall_at_{k}": 0.5 for k in ("0", "-1", "9" * 400, "1e5", "", "\u0665")},
    "folds with impossible names": {f"fold{k}_map_at_r": 0.5 for k in ("", "9" * 400, "-1")},
    "a failed row without a reason": {"status": "failed", "reason": None},
    "paths outside": {"dataset": "../../outside", "run_id": "../../x", "loss": "/etc/passwd"},
    "a target": {"loss_make_target": "os.system", "trunk_make_target": "subprocess.run"},
    "an interpolation": {"loss_make_x": "${oc.env:PATH}", "overrides": '["hydra.searchpath=[pkg://evil]"]'},
}


def with_columns(columns: dict[str, Any]) -> str:
    """Return a row with other columns, also those that a row refuses."""
    return json.dumps({**make_row(loss="triplet").columns, **columns})


# --- other JSON files

HISTORIES = {
    "deep": DEEP,
    "a huge number": f'{{"epoch": 1, "loss": {HUGE}}}',
    "overflowing range": '{"epoch": 1, "loss": 1e308}\n{"epoch": 2, "loss": -1e308}',
    "huge epochs": '{"epoch": 1e308, "loss": 1}\n{"epoch": -1e308, "loss": 2}',
    "huge scores": '{"epoch": 1, "test_map_at_r": 1e308}\n{"epoch": 2, "test_map_at_r": -1e308}',
    "not numbers": '{"epoch": NaN, "loss": Infinity}\n{"epoch": null, "loss": [1]}',
    "a list": "[1, 2]",
    "binary": bytes(range(256)) * 100,
    "many lines": '{"epoch": 1, "loss": 1}\n' * 20_000,
    "one long line": '{"loss": "' + "x" * 1_000_000 + '"}',
}
CLASS_NAMES = {
    "deep": DEEP,
    "nearly too deep": '{"0": ' + NEARLY_TOO_DEEP + "}",
    "half a character": '{"0": "\\ud800", "1": "b"}',
    "not text": '{"0": [[]], "1": {"a": 1}}',
    "control characters": json.dumps({"0": ESCAPES, "1": "=1+1"}),
    "a long name": json.dumps({"0": "x" * 1_000_000}),
    "a list": "[1]",
    "a huge number": f'{{"0": {HUGE}}}',
    "invalid UTF-8": b'{"0": "\xff"}',
}
OVERRIDES = {
    "deep": DEEP,
    "half a character": f"[{HALF_SURROGATE}]",
    "not text": "[[1], {}, null]",
    "executing": '["hydra.searchpath=[pkg://evil]", "loss.make._target_=os.system"]',
    "control characters": json.dumps([ESCAPES]),
}
ERRORS = {
    "control characters": ESCAPES,
    "binary": bytes(range(256)) * 1000,
    "a long line": "x" * 1_000_000,
    "white space": "Traceback (most recent call last):\n" + " \n" * 10_000,
}

# --- scores


def safetensors_with(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with any header."""
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor_header(dtype: str = "F64", shape: object = (4,), offsets: object = (0, 32), names: tuple[str, ...] = ()) -> str:
    """Return a header in which all tensors have the same description."""
    names = names or ("ids", "labels", "map_at_r", "embeddings")
    return json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets} for name in names})


def scores(**arrays: np.ndarray) -> bytes:
    """Return the file of per-query scores of a row with the score 0.5."""
    good = {"ids": np.arange(4), "labels": np.arange(4) // 2, "map_at_r": np.full(4, 0.5)}
    return save({**good, **arrays})


TENSOR_FILES: dict[str, bytes] = {
    "empty": b"",
    "7 bytes": b"1234567",
    "a header beyond the file": safetensors_with("{}", length=2**62),
    "a header of 100 MB": safetensors_with("{}", length=100 * 2**20),
    "a deep header": safetensors_with('{"ids": ' + DEEP),
    "a list as header": safetensors_with("[]"),
    "a huge number": safetensors_with(tensor_header(shape=[1]).replace("[1]", f"[{HUGE}]")),
    "negative offsets": safetensors_with(tensor_header(offsets=[-32, 0]), bytes(32)),
    "overlapping tensors": safetensors_with(tensor_header(), bytes(32)),
    "a shape that lies": safetensors_with(tensor_header(shape=[10**9, 10**9]), bytes(32)),
    "a shape with a zero": safetensors_with(tensor_header(shape=[10**12, 0], offsets=[0, 0])),
    "a shape of texts": safetensors_with(tensor_header(shape=["4"]), bytes(32)),
    "no shape": safetensors_with('{"embeddings": {}, "labels": 1, "ids": null}'),
    "bfloat16": safetensors_with(tensor_header("BF16", [4], [0, 8], ("map_at_r",)), bytes(8)),
    "an unknown dtype": safetensors_with(tensor_header("Q4"), bytes(32)),
    "half a character": safetensors_with('{"__metadata__": {"a": "\\ud800"}}'),
    "a pickle": pickle.dumps(Executes()),
}
SCORES: dict[str, bytes] = {
    **TENSOR_FILES,
    "other classes": scores(labels=np.array([5, 6, 7, 8])),
    "one class": scores(labels=np.zeros(4, dtype=np.int64)),
    "no query": save({name: np.zeros(0, dtype=np.int64) for name in ("ids", "labels", "map_at_r")}),
    "not finite": scores(map_at_r=np.array([np.nan, np.inf, -np.inf, 1e308])),
    "labels that are not finite": scores(labels=np.array([np.nan, np.inf, 0, 1])),
    "unsigned ids": scores(ids=np.arange(4, dtype=np.uint64) + np.uint64(2**63)),
    "two dimensions": scores(map_at_r=np.zeros((2, 2))),
    "equal ids": scores(ids=np.zeros(4, dtype=np.int64)),
    "other scores": scores(map_at_r=np.zeros(4)),
}

# --- special files

RUN_FILES = (
    *(
        "row.json",
        "plan.json",
        "history.jsonl",
        "classes.json",
        "class_groups.json",
        "images.json",
        "overrides.json",
        "words.json",
        "error.txt",
        ".lock",
    ),
    *("per_query.safetensors", "checkpoint.pt", "embeddings.safetensors", "model.pt"),
)


def _bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{directory}/{path.name}")  # because the path of a socket may have 108 bytes only
        os.close(directory)


SPECIAL: dict[str, Change] = {
    "FIFO": os.mkfifo,
    "socket": _bind_socket,
    "directory": os.mkdir,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "link to a file outside": lambda path: path.symlink_to(path.absolute().parents[4] / "outside" / "secret"),
    "link to a directory outside": lambda path: path.symlink_to(path.absolute().parents[4] / "outside"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "4 TiB": lambda path: os.close(_sparse(path)),
}


def _sparse(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.truncate(descriptor, 2**42)
    return descriptor


def special(name: str, make: Change) -> Change:
    """Return a function that replaces a file of a run by a special file. Without the row, the other files are read too."""

    def change(run: Path) -> None:
        if name in ("plan.json", ".lock", "error.txt", "checkpoint.pt", "overrides.json"):
            (run / "row.json").rename(run / "plan.json")
        (run / name).unlink(missing_ok=True)
        make(run / name)

    return change


# --- embeddings


def npy(header: str, version: bytes = b"\x01\x00", data: bytes = bytes(64)) -> bytes:
    """Return a .npy file with any header."""
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header.encode() + data


def described(descr: str = "'<f4'", shape: str = "(4, 4)", fortran: str = "False") -> str:
    """Return the header of a .npy file."""
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}\n"


def saved(array: np.ndarray) -> bytes:
    """Return a .npy file, pickled if the array contains objects."""
    out = BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def zipped(**members: bytes) -> bytes:
    """Return an .npz file with any members."""
    out = BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


PICKLED = saved(np.array([Executes()], dtype=object))
NPY: dict[str, bytes] = {
    "empty": b"",
    "only magic": b"\x93NUMPY",
    "an unknown version": npy(described(), b"\x09\x00"),
    "9,000 brackets": npy("[" * 9_000),
    "9,000 parentheses": npy("{'descr': " + "(" * 9_000),
    "9,000 minus signs": npy("-" * 9_000 + "1"),
    "a long header": npy(described() + " " * 60_000),
    "a call in the header": npy("__import__('os').system('touch executed')"),
    "no shape": npy("{'descr': '<f4'}"),
    "a huge shape": npy(described(shape=f"({HUGE}, 4)")),
    "a shape that lies": npy(described(shape="(1000000000, 1000000000)")),
    "a Fortran shape that lies": npy(described(shape="(1000000000, 1000000000)", fortran="True")),
    "a negative shape": npy(described(shape="(-4, -4)")),
    "a shape of texts": npy(described(shape="('4', 4)")),
    "no dimension": npy(described(shape="()")),
    "a zero": npy(described(shape="(1000000000000, 0)")),
    "items without size": npy(described(descr="'|V0'", shape="(4, 4)")),
    "objects": npy(described(descr="'|O'")),
    "a pickle": PICKLED,
    "a pickle as it is": pickle.dumps(Executes()),
    "fields": npy(described(descr="[('a', '<f4'), ('b', '|O')]")),
    "a field of a field": npy(described(descr="[('a', " * 50 + "'<f4'" + ")]" * 50)),
    "texts": npy(described(descr="'<U1'")),
    "not finite": saved(np.full((4, 4), np.nan, dtype=np.float32)),
    "beyond float32": saved(np.full((4, 4), 1e300)),
}
LABELS: dict[str, str | bytes] = {
    "empty": "",
    "only a heading": "labels\n",
    "no labels": "label\n0\n0\n1\n1\n",
    "binary": bytes(range(256)),
    "null bytes": b"labels\n" + bytes(100),
    "a quote without end": 'labels\n"0\n0\n1\n1\n',
    "more fields than names": "labels\n0,1,2\n0\n1\n1\n",
    "huge numbers": f"labels\n{HUGE}\n0\n1\n1\n",
    "formulas": "labels\n=1+1\n=1+1\n@SUM\n@SUM\n",
    "control characters": f"labels,{ESCAPES!r}\n\x1b[2J,1\n\x1b[2J,1\nb,1\nb,1\n",
    "invalid UTF-8": b"labels\n\xff\n\xff\n0\n0\n",
    "the same name twice": "labels,labels\n0,0\n0,0\n1,1\n1,1\n",
    "ids that are not numbers": "labels,ids\n0,a\n0,b\n1,c\n1,d\n",
    "roles that are not true or false": "labels,is_query\n0,2\n0,3\n1,4\n1,5\n",
}
NPZ: dict[str, bytes] = {
    "empty": b"",
    "an empty archive": zipped(),
    "pickled labels": zipped(embeddings=saved(np.eye(4)), labels=PICKLED),
    "a pickle beside": zipped(embeddings=saved(np.eye(4)), labels=saved(np.array([0, 0, 1, 1])), evil=PICKLED),
    "brackets": zipped(embeddings=npy("[" * 9_000), labels=saved(np.zeros(4))),
    "a shape that lies": zipped(embeddings=npy(described(shape="(1000000000, 1000000000)")), labels=b""),
    "members outside": zipped(**{"../../outside/new": saved(np.eye(4)), "embeddings": b"x"}),
    "not arrays": zipped(embeddings=b"text", labels=b"text"),
    "a damaged member": zipped(embeddings=saved(np.eye(4)), labels=saved(np.arange(4)))[:-60] + bytes(60),
}
