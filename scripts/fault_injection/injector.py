"""Count the file-system events of a process, and inject a fault at one of them.

An event changes something below one directory: a file is opened for writing, written, synchronised, renamed or removed; a
directory is made or removed. Reading changes nothing, so a kill before it would leave the same files as a kill after it.

Opening, renaming, removing and making directories raise audit events of Python, in which an exception stops the operation. For
writes, `open` is replaced by a function that returns files of the same classes, whose lowest layer is `CountedFile`.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from .faults import Fault

VARIABLE = "DMLBENCH_FAULT"  # describes the fault to processes that do not descend from this one by fork
_CHANGING = os.O_CREAT | os.O_TRUNC
_AUDITED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
_NEED_SPACE = ("create", "write", "fsync", "mkdir", "link", "symlink")
_WITHOUT_DESCRIPTOR = ("PIL.", "numpy.", "torch.")  # would write to the descriptor itself, if the file had one
_JUMP_SECONDS = (0.001, 1, 3600, 86_400 * 400)

_real_open, _real_fsync = io.open, os.fsync
_CLOCKS = {name: getattr(time, name) for name in ("time", "monotonic", "perf_counter")}


class Injector:
    """Counts events, writes them to a trace, and injects one fault.

    Args:
        root: Directory of the command; events elsewhere are not counted.
        control: Directory of the traces, and of the files through which processes agree that the fault has happened.
        fault: The fault.
        command: Id of the process of the command.
    """

    def __init__(self, root: Path, control: Path, fault: Fault, command: int) -> None:
        self.root, self.control, self.fault, self.command = str(root), control, fault, command
        self._process, self._n, self._trace, self._busy = -1, 0, -1, False
        self._jumps = random.Random(fault.clock)
        self._wall = self._steady = 0.0

    def install(self) -> None:
        """Start to count. It cannot be undone in this process."""
        sys.addaudithook(self._on_audit)
        io.open = builtins.open = self._open  # type: ignore[assignment]
        os.fsync = self._fsync
        if self.fault.clock is not None:
            self._replace_clocks()
        description = {"root": self.root, "control": str(self.control), "fault": self.fault.as_json(), "command": self.command}
        os.environ[VARIABLE] = json.dumps(description)

    def _inside(self, path: Any, directory: int = -1) -> str | None:
        """Return the path relative to the root; None if it is not below it."""
        if isinstance(path, int):
            path = _path_of(path)
        path = os.fsdecode(path)
        if directory >= 0:
            path = os.path.join(_path_of(directory), path)
        path = os.path.abspath(path)
        return path[len(self.root) + 1 :] if path.startswith(self.root + os.sep) else None

    def _on_audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name not in _AUDITED or self._busy:
            return
        if name == "open":
            self._on_open(*arguments)
            return
        target, directory = arguments[0], -1 if name == "os.truncate" else arguments[-1]
        if name in ("os.rename", "os.link", "os.symlink"):
            target = arguments[1]
        path = self._inside(target, directory)
        if path is None:
            return
        whole = os.path.join(self.root, path)
        if name == "os.mkdir" and (os.path.lexists(whole) or not os.path.isdir(os.path.dirname(whole))):
            return  # it will fail and change nothing
        if name in ("os.remove", "os.rmdir") and not os.path.lexists(whole):
            return
        self._count(name.removeprefix("os."), path)

    def _on_open(self, file: Any, mode: str | None, flags: int) -> None:
        """Count the creation of a file, and the truncation of an existing one."""
        if isinstance(file, str | bytes | os.PathLike) and flags & _CHANGING and (path := self._inside(file)) is not None:
            whole = os.path.join(self.root, path)
            exists = os.path.lexists(whole)
            if exists and flags & os.O_TRUNC and os.path.getsize(whole):
                self._count("truncate", path)
            elif not exists and flags & os.O_CREAT and os.path.isdir(os.path.dirname(whole)):
                self._count("create", path)

    def _count(self, kind: str, path: str, half_written: Any = None) -> bool:
        """Count an event before it happens, and inject the fault if it is its turn.

        Args:
            kind: Kind of the event.
            path: Relative path.
            half_written: Function that writes half of the data.

        Returns:
            Whether only half of the data may be written, because the disk is full after that.
        """
        self._busy = True
        try:
            if self._process != os.getpid():  # also after a fork
                self._process, self._n = os.getpid(), 0
                role = "command" if self._process == self.command else "job"
                self._trace = os.open(self.control / f"{role}-{self._process}.trace", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._n += 1
            os.write(self._trace, f"{kind} {path}\n".encode())
            self._jump()
            return self._inject(kind, path, half_written)
        finally:
            self._busy = False

    def _inject(self, kind: str, path: str, half_written: Any) -> bool:
        fault = self.fault
        is_target = (fault.target == "command") == (self._process == self.command)
        if fault.action == "none" or (fault.action != "full" and self._n != fault.event):
            return False
        if fault.action == "full":
            full = self.control / "full"
            due = self._n >= fault.event and is_target and kind in _NEED_SPACE
            first = due and not full.exists() and self._claim("full", kind, path)
            if kind in _NEED_SPACE and full.exists():
                if first and kind == "write":
                    return True  # a full disk takes a part of the data; the next write fails
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.path.join(self.root, path))
        elif is_target and self._claim("killed", kind, path):
            if fault.action == "torn" and half_written is not None:
                half_written()
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    def _claim(self, name: str, kind: str, path: str) -> bool:
        """Record that the fault happens. False if another process was faster."""
        try:
            file = os.open(self.control / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        os.write(file, f"{kind} {path}".encode())
        os.close(file)
        return True

    def _fsync(self, file: Any) -> None:
        path = self._inside(file if isinstance(file, int) else file.fileno())
        if path is not None:
            self._count("fsync", path)
        _real_fsync(file)

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> IO[Any]:
        """As `open`; files for writing below the root report their writes."""
        if not set(mode) & set("wax+") or (path := self._inside(file)) is None:
            return _real_open(file, mode, buffering, *rest, **options)
        names = ("encoding", "errors", "newline", "closefd", "opener")
        options |= dict(zip(names, rest, strict=False))
        raw = CountedFile(
            file, mode.replace("b", "").replace("t", ""), options.pop("closefd", True), options.pop("opener", None)
        )
        raw.injector, raw.path = self, path
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, line_buffering=buffering == 1, **options)
        text.mode = mode  # type: ignore[misc]
        return text

    def _replace_clocks(self) -> None:
        """Let the clocks of Python jump at every event: the time of day in both directions, the others only forward."""
        for name, real in _CLOCKS.items():
            offset = (lambda: self._wall) if name == "time" else (lambda: self._steady)
            setattr(time, name, lambda real=real, offset=offset: real() + offset())
            setattr(time, f"{name}_ns", lambda name=name: int(getattr(time, name)() * 1e9))

    def _jump(self) -> None:
        if self.fault.clock is not None:
            seconds = self._jumps.choice(_JUMP_SECONDS)
            self._wall += self._jumps.choice((-1, 1)) * seconds
            self._steady += seconds


class CountedFile(io.FileIO):
    """The lowest layer of a file that is open for writing."""

    injector: Injector
    path: str

    def write(self, data: Any) -> int:
        """Write the data, unless the fault of the injector prevents it.

        Args:
            data: Bytes.

        Returns:
            Number of bytes written.
        """
        view = memoryview(data).cast("B")
        half = view[: len(view) // 2]
        if self.injector._count("write", self.path, lambda: super(CountedFile, self).write(half)) and len(half):
            view = half
        return super().write(view)

    def fileno(self) -> int:
        """Return the descriptor, except to libraries that would write to it without this object."""
        if sys._getframe(1).f_globals.get("__name__", "").startswith(_WITHOUT_DESCRIPTOR):
            raise io.UnsupportedOperation("fileno")
        return super().fileno()


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def install_from_environment() -> None:
    """Install the injector that the environment describes, if any: in processes of launchers that start a new interpreter."""
    if VARIABLE in os.environ:
        given = json.loads(os.environ[VARIABLE])
        Injector(Path(given["root"]), Path(given["control"]), Fault(**given["fault"]), given["command"]).install()
