"""An append-only event log, through which jobs in other processes report their progress: one file per event.

A file system is the only channel that the processes of all launchers (joblib, ray, SLURM) have in common.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dmlbench.config.schema import Scalar
from dmlbench.system.atomic_write import atomic_write
from dmlbench.system.locks import abandoned, owned

Event = dict[str, Scalar]
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class EventLog:
    """A directory of events.

    Args:
        folder: Directory of the log: an absolute path that is the same for all processes.
    """

    folder: Path
    _read: set[str] = field(default_factory=set, compare=False)

    @classmethod
    @contextmanager
    def opened(cls, directory: Path) -> Iterator[EventLog]:
        """Create a log for the time of a `with` block. Logs of commands on this machine that were killed are removed.

        Args:
            directory: Directory of the logs: an absolute path that is the same for all processes.

        Yields:
            The log.
        """
        host = f"{socket.gethostname()}-"
        for left in directory.glob(f"{glob.escape(host)}*-*"):
            with abandoned(left) as is_abandoned:
                if is_abandoned:
                    shutil.rmtree(left, ignore_errors=True)

        def create() -> Path:
            folder = directory / f"{host}{os.getpid()}-{time.time_ns()}"
            folder.mkdir(parents=True)
            return folder

        with owned(create) as folder:
            try:
                yield cls(folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def append(self, **event: Scalar) -> None:
        """Add an event, completely or not at all.

        Args:
            event: Names and values of the event.
        """
        name = f"{time.time_ns():020}-{socket.gethostname()}-{os.getpid()}.json"
        atomic_write(self.folder / name, json.dumps(event))

    def poll(self) -> Iterator[Event]:
        """Yield the events that this object has not read yet, in the order of their time."""
        for file in sorted(self.folder.glob("[0-9]*.json")):
            if file.name not in self._read:
                self._read.add(file.name)
                yield json.loads(file.read_text(encoding="utf-8"))

    @contextmanager
    def following(self, handle: Callable[[Event], None]) -> Iterator[None]:
        """Call a function for every event while a `with` block runs, and for the remaining events when it ends.

        Args:
            handle: Called with each event, in a thread.
        """
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(POLL_SECONDS):
                for event in self.poll():
                    handle(event)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for event in self.poll():
                handle(event)
