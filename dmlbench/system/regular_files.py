"""Read files that may come from somebody else: only regular files, of bounded size, and JSON of bounded depth."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from io import FileIO
from pathlib import Path
from typing import Any

from dmlbench.errors import FileError

MAX_DIGITS = 300  # of an integer; the largest float has 309
MAX_TEXT_BYTES = 64 * 1024**2  # a row has 20 kB, a history of 10,000 epochs 2 MB, the class names of 1,000,000 classes 30 MB
_READ_BYTES = 2**16

_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))


class NotARegularFileError(FileError):
    """The path is a link, a FIFO, a socket, a device or a directory, or the file is larger than allowed.

    Args:
        path: The path.
        reason: Which of these, a clause.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(0, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename} cannot be used: {self.strerror}"


def regular_descriptor(path: str | Path, flags: int = os.O_RDONLY, max_bytes: int | None = None) -> int:
    """Open a regular file. Anything else is refused without being opened for use, so opening never blocks.

    Args:
        path: The file. A link is refused, because its target may lie anywhere; links among its parents are followed.
        flags: Flags of `os.open`. Truncating is not possible, because the file is checked after it was opened.
        max_bytes: Largest size that is accepted; None for any.

    Returns:
        A file descriptor, which the caller closes.

    Raises:
        NotARegularFileError: It is not a regular file, or it is larger than `max_bytes`. The text says which.
        OSError: It cannot be opened.
    """
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for a writer. It has no effect on regular files.
        descriptor = os.open(path, flags & ~os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if os.path.islink(path):
            raise NotARegularFileError(path, "it is a link") from None
        if os.path.isdir(path):
            raise NotARegularFileError(path, "it is a directory") from None
        if error.filename is not None and os.path.exists(path) and not os.path.isfile(path):
            raise NotARegularFileError(path, "it is not a regular file") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            is_directory = stat.S_ISDIR(status.st_mode)
            raise NotARegularFileError(path, "it is a directory" if is_directory else "it is not a regular file")
        if max_bytes is not None and status.st_size > max_bytes:
            raise NotARegularFileError(path, f"it has {status.st_size:,} bytes; at most {max_bytes:,} are read")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: str | Path, max_bytes: int | None = None) -> FileIO:
    """Open a regular file for reading, as `regular_descriptor` does.

    Args:
        path: The file.
        max_bytes: Largest size that is accepted; None for any.

    Returns:
        The open file, unbuffered.

    Raises:
        OSError: As `regular_descriptor`.
    """
    return os.fdopen(regular_descriptor(path, max_bytes=max_bytes), "rb", buffering=0)


def read_bytes(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Read a regular file of bounded size.

    Args:
        path: The file.
        max_bytes: Largest size that is accepted.

    Raises:
        OSError: As `regular_descriptor`.
    """
    descriptor = regular_descriptor(path, max_bytes=max_bytes)
    try:
        parts = []
        while part := os.read(descriptor, _READ_BYTES):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def sha256(*paths: Path) -> str:
    """Return the SHA-256 of a regular file, in hex.

    Args:
        paths: The file; or several, for the SHA-256 of their digests in this order.

    Raises:
        OSError: As `regular_descriptor`.
    """
    digests = []
    for path in paths:
        with open_regular(path) as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def read_text(path: str | Path, max_bytes: int = MAX_TEXT_BYTES, errors: str = "strict") -> str:
    """Read a regular text file of bounded size.

    Args:
        path: The file, in UTF-8.
        max_bytes: Largest size that is accepted.
        errors: `strict`, or `replace` to mark invalid bytes.

    Raises:
        OSError: As `regular_descriptor`.
        UnicodeDecodeError: The file is not UTF-8. It is a ValueError.
    """
    return read_bytes(path, max_bytes).decode("utf-8", errors)


def read_json(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """Read a JSON file of bounded size.

    Args:
        path: The file, in UTF-8.
        max_bytes: Largest size that is accepted.

    Raises:
        OSError: As `regular_descriptor`.
        ValueError: As `parse_json`.
    """
    return parse_json(read_bytes(path, max_bytes))


def parse_json(data: bytes) -> Any:
    """Parse JSON text whose values can be printed and computed with.

    Args:
        data: UTF-8 text.

    Raises:
        ValueError: It is not JSON, is nested too deeply, holds a number beyond the range of a float, has a key twice, or holds
            text that is not valid Unicode. The message is a clause.
    """
    try:
        value = _DECODER.decode(data.decode())
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    if _has_long_number(data) and _has_long_number(json.dumps(value).encode()):  # which shortens fractions
        raise ValueError(f"it holds an integer of more than {MAX_DIGITS} digits")
    if b"\\ud" in data or b"\\uD" in data:  # possibly an unpaired surrogate, which cannot be printed
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("its text is not valid Unicode") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has the key {twice[:80]!r} twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _has_long_number(data: bytes) -> bool:
    return b"0" * (MAX_DIGITS + 1) in data.translate(_DIGITS_TO_ZERO)
