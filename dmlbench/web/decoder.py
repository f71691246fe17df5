"""Decode uploaded images in another process, whose memory and time are limited. A decoder that crashes ends that process only.

This module is also the program of that process. Both sides talk through pipes: the size and the path of a file, then either the
size and the pixels of the image, or a reason.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dmlbench.errors import UserError

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50_000_000  # of a phone's camera
SECONDS = 10.0
_MEMORY_BYTES = 2 * 2**30
_HEADER = struct.Struct("<II")  # height and width of the pixels; or 0 and the length of the reason
_LENGTH = struct.Struct("<I")
_WAIT_SECONDS = 30.0  # for the images of other users
_FAILED = "it cannot be decoded within {:.0f} seconds and 2 GiB of memory"


class Decoder:
    """Decodes one image at a time. The process is started when it is needed, and again after it was ended.

    Args:
        directory: Directory for the file that is being decoded. Its name is random, and it is removed afterwards.
        seconds: Time limit for one image.
    """

    def __init__(self, directory: Path, seconds: float = SECONDS) -> None:
        self._directory = directory
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, content: bytes) -> np.ndarray:
        """Decode the content of an image file, turned upright.

        Args:
            content: The file.

        Returns:
            uint8 `(H, W, 3)`, RGB.

        Raises:
            UserError: It is not an image that is accepted. The text is one sentence.
        """
        if not content:
            raise UserError("the file is empty; choose an image")
        if len(content) > MAX_BYTES:
            raise UserError(f"the file has {len(content):,} bytes; at most {MAX_BYTES:,} are accepted")
        if not self._lock.acquire(timeout=_WAIT_SECONDS):
            raise UserError("other images are being decoded; try again")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix="upload-") as file:
                file.write(content)
                file.flush()
                return self._decode(file.name)
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def _decode(self, path: str) -> np.ndarray:
        process = self._started()
        timer = threading.Timer(self._seconds, process.kill)
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            encoded = os.fsencode(os.path.abspath(path))
            process.stdin.write(_LENGTH.pack(len(encoded)) + encoded)
            process.stdin.flush()
            height, width = _HEADER.unpack(_read_exactly(process.stdout, _HEADER.size))
            if height:
                return np.frombuffer(_read_exactly(process.stdout, height * width * 3), np.uint8).reshape(height, width, 3)
            reason = _read_exactly(process.stdout, width).decode()
        except (OSError, EOFError):
            self.close()
            raise UserError(_sentence(_FAILED.format(self._seconds))) from None
        finally:
            timer.cancel()
        raise UserError(_sentence(reason))

    def _started(self) -> subprocess.Popen[bytes]:
        """Return the process. Its import of libraries does not count as time of an image."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            command = [sys.executable, "-P", "-m", "dmlbench.web.decoder"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert self._process.stdout is not None
            self._process.stdout.read(1)
        return self._process


def _sentence(reason: str) -> str:
    return f"this file cannot be used as an image: {reason}"


def _read_exactly(stream: object, n: int) -> bytes:
    data = stream.read(n)  # type: ignore[attr-defined]  # a buffered pipe returns fewer bytes only at its end
    if len(data) < n:
        raise EOFError
    return bytes(data)


def _limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _pixels_or_reason(path: Path) -> np.ndarray | str:
    from dmlbench.data.images import open_image, read_pixels

    try:
        with open_image(path) as image:
            width, height = image.size
        if width * height > MAX_PIXELS:
            return f"it has {width} x {height} pixels; at most {MAX_PIXELS:,} are accepted"
        return np.ascontiguousarray(read_pixels(path, upright=True))
    except UserError as error:  # its text begins with the path, and ends with advice about data sets
        return str(error).partition(" cannot be read as an image: ")[2].rpartition("; repair or remove it")[0]
    except MemoryError:
        return "it needs too much memory"


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Decode files until the other side closes its pipe.

    Args:
        requests: Paths of files.
        replies: Pixels or reasons.
    """
    replies.write(b"+")
    replies.flush()
    while length := requests.read(_LENGTH.size):
        found = _pixels_or_reason(Path(os.fsdecode(requests.read(*_LENGTH.unpack(length)))))
        if isinstance(found, str):
            text = found.encode("utf-8", "replace")[:1000]
            replies.write(_HEADER.pack(0, len(text)) + text)
        else:
            replies.write(_HEADER.pack(*found.shape[:2]))
            replies.write(found.tobytes())
        replies.flush()
        del found


if __name__ == "__main__":
    import dmlbench.data.images  # noqa: F401 -- before the first image

    _limit_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer)
