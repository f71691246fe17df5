"""Floor 5: what jobs say of themselves from other processes, a file an event, to whoever started them.

A file system is all that the processes of a launcher surely share: joblib's, ray's and SLURM's alike.
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

from dmlbench.rows import Scalar, write_text

Event = dict[str, Scalar]
PAUSE_SECONDS = 0.3  # between two looks


@dataclass(frozen=True)
class Ledger:
    """A folder of events.

    Args:
        folder: absolute, and the same for all processes.
    """

    folder: Path
    _read: set[str] = field(default_factory=set, compare=False)

    def say(self, **event: Scalar) -> None:
        """Put down an event, whole or not at all."""
        name = f"{time.time_ns():020}-{socket.gethostname()}-{os.getpid()}.json"
        write_text(self.folder / name, json.dumps(event))

    def news(self) -> Iterator[Event]:
        """The events that this object has not read before, in the order of their time."""
        for file in sorted(self.folder.glob("[0-9]*.json")):
            if file.name not in self._read:
                self._read.add(file.name)
                yield json.loads(file.read_text(encoding="utf-8"))

    @contextmanager
    def followed(self, hear: Callable[[Event], None]) -> Iterator[None]:
        """Within, every event is handed over soon after it was put down; at the end, those that are left."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(PAUSE_SECONDS):
                for event in self.news():
                    hear(event)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for event in self.news():
                hear(event)

    def remove(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)
