"""An append-only event log through which jobs in other processes report their progress: one file per event.

A file system is all that the processes of every launcher (joblib, ray, SLURM) are certain to share.
"""

from __future__ import annotations

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

Event = dict[str, Scalar]
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class EventLog:
    """A directory of events.

    Args:
        folder: Absolute path, the same for all processes.
    """

    folder: Path
    _read: set[str] = field(default_factory=set, compare=False)

    def append(self, **event: Scalar) -> None:
        """Add an event, whole or not at all."""
        name = f"{time.time_ns():020}-{socket.gethostname()}-{os.getpid()}.json"
        atomic_write(self.folder / name, json.dumps(event))

    def poll(self) -> Iterator[Event]:
        """Yield the events that this object has not read yet, ordered by time."""
        for file in sorted(self.folder.glob("[0-9]*.json")):
            if file.name not in self._read:
                self._read.add(file.name)
                yield json.loads(file.read_text(encoding="utf-8"))

    @contextmanager
    def following(self, handle: Callable[[Event], None]) -> Iterator[None]:
        """Call a function for every event while the block runs, and for the remaining ones when it ends."""
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

    def remove(self) -> None:
        """Delete the log."""
        shutil.rmtree(self.folder, ignore_errors=True)
