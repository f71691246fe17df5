"""Strategies of hypothesis for damaged and hostile files."""

from __future__ import annotations

import io
import json
import stat
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

_NUMBERS = tuple(
    struct.pack("<q", value)[:size] for size in (1, 2, 4, 8) for value in (0, -1, 1, 0x7FFFFFFF, 0x7FFFFFFFFFFFFFFF)
)
_TOKENS = (
    *(b"[", b"]", b"{", b"}", b'"', b"'", b",", b":", b"\n", b"\0", b"\xff", b"\xc3\xa9", b"\x1b]0;x\x07", b"\xc2\x9b31m"),
    *(b"[" * 9_000, b"1" + b"0" * 400, b"1e999", b"NaN", b"-Infinity", b'"\\ud800"', b"${oc.env:HOME}", b"&a [*a]"),
    *(b"!!python/object/apply:os.system ['touch evil']", b"=cmd|' /C calc'!A0", b"../../evil", b"/dev/zero", b"~"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**400, -(10**20), 1e308, -1e308, 5e-324, float("nan"), float("inf"), "", "\ud800", "\0"),
    *(
        "\x1b[2J\x1b]0;evil\x07",
        "\x9b31m",
        "=1+1",
        "../../evil",
        "/etc/passwd",
        "x" * 100_000,
        "${oc.env:HOME}",
        "é\u202e",
        "ok",
    ),
    *([], {}, [[]], {"a": {"b": 1}}, [1] * 1000, ["hydra.searchpath=[pkg://evil]"], '["hydra.searchpath=[pkg://evil]"]'),
)
_NAMES = (
    *(
        "a.txt",
        "a/b.txt",
        "a/b/c.txt",
        "../evil",
        "a/../../evil",
        "/tmp/evil-of-a-test",
        "..",
        ".",
        "",
        "./a.txt",
        "a//b.txt",
        "link",
    ),
    *(
        "link/evil",
        "link/link/evil",
        "C:\\evil",
        "..\\evil",
        "a\0b",
        "x" * 300,
        "x/" * 60 + "y",
        "é",
        "\udce9",
        "a\n",
        "\x1b[2J",
        "con",
    ),
)
_TARGETS = ("..", "../..", "../evil", "/tmp", "/etc/passwd", "a", "a.txt", "link", ".", "", "x" * 5000)


def damaged(files: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of files that are like some files, with up to six changes.

    Args:
        files: Sound files.
    """
    position = st.integers(0, 1 << 16)
    data = st.one_of(st.binary(max_size=8), st.sampled_from(_NUMBERS), st.sampled_from(_TOKENS))
    kinds = st.sampled_from(("flip", "overwrite", "insert", "delete", "truncate", "repeat"))
    edits = st.lists(st.tuples(kinds, position, data, st.integers(1, 64)), min_size=1, max_size=6)
    return st.builds(_edit, st.sampled_from(list(files)), edits)


def _edit(content: bytes, edits: Sequence[tuple[str, int, bytes, int]]) -> bytes:
    for kind, place, data, length in edits:
        place %= len(content) + 1
        head, tail = content[:place], content[place:]
        if kind == "flip" and tail:
            content = head + bytes([tail[0] ^ (length | 1)]) + tail[1:]
        elif kind == "overwrite":
            content = head + data + tail[len(data) :]
        elif kind == "insert":
            content = head + data + tail
        elif kind == "delete":
            content = head + tail[length:]
        elif kind == "truncate":
            content = head
        elif kind == "repeat":
            content = head + tail[:length] * length + tail
    return content


def damaged_json(files: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of JSON files in which values or keys are replaced, or bytes are damaged.

    Args:
        files: Sound files, each an object or a list.
    """
    edit = st.tuples(st.integers(0, 1 << 16), st.sampled_from(range(len(_VALUES))), st.booleans())
    edits = st.lists(edit, min_size=1, max_size=4)
    return st.one_of(st.builds(_edit_json, st.sampled_from(list(files)), edits), damaged(files))


def _edit_json(content: bytes, edits: Sequence[tuple[int, int, bool]]) -> bytes:
    value = json.loads(content)
    for place, number, remove in edits:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            break
        key = keys[place % len(keys)]
        if remove and number % 3 == 0:
            del value[key]
        else:
            value[key] = _VALUES[number]
    return json.dumps(value).encode()


def archives() -> st.SearchStrategy[bytes]:
    """Return a strategy of tar and zip archives with hostile members, some of them damaged as well."""
    kinds = st.sampled_from(("file", "file", "directory", "symlink", "hardlink", "fifo", "device"))
    member = st.tuples(kinds, st.sampled_from(_NAMES), st.sampled_from(_TARGETS), st.sampled_from((0o644, 0o7777, 0)))
    members = st.lists(member, min_size=1, max_size=5)
    whole = st.one_of(st.builds(_tar, members, st.sampled_from(("w", "w:gz", "w:xz"))), st.builds(_zip, members))
    return st.one_of(whole, whole.flatmap(lambda content: damaged([content])))


def _tar(members: Sequence[tuple[str, str, str, int]], mode: Any) -> bytes:
    types = {"directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}
    types |= {"fifo": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, errors="surrogateescape") as archive:
        for kind, name, target, permissions in members:
            entry = tarfile.TarInfo(name)
            entry.mode = permissions
            if kind == "file":
                entry.size = 4
                archive.addfile(entry, io.BytesIO(b"evil"))
            else:
                entry.type, entry.linkname = types[kind], target if kind.endswith("link") else ""
                archive.addfile(entry)
    return out.getvalue()


def _zip(members: Sequence[tuple[str, str, str, int]]) -> bytes:
    types = {"symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO, "device": stat.S_IFCHR, "directory": stat.S_IFDIR}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for kind, name, target, permissions in members:
            entry = zipfile.ZipInfo(name.encode(errors="replace").decode() or "empty")
            entry.external_attr = (types.get(kind, stat.S_IFREG) | permissions) << 16
            archive.writestr(entry, target if kind == "symlink" else "evil")
    return out.getvalue()
