"""A thread in each of several processes that notices if another one is stopped or cannot be reached.

A process that ends is noticed by the connection to it. One that is stopped, or whose machine loses power or network, is not:
the others would wait for its next decision, which may take hours if it evaluates alone. So each process counts in a store that
all can read, and ends if the counter of another one does not change.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

_LEFT = 2**40  # added to the counter of a process that has done its part
_LONGEST_PAUSE_S = 10.0


def connect(limit_s: float) -> TCPStore:
    """Connect to the store that torchrun, or else the first process, offers.

    Args:
        limit_s: Seconds after which a connection fails.

    Raises:
        RuntimeError: The store cannot be reached.
    """
    timeout = timedelta(seconds=limit_s)
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timeout)


@contextmanager
def watching(store: Store, rank: int, count: int, limit_s: float) -> Iterator[None]:
    """Watch the other processes for the time of the context; end this process if one of them gives no sign.

    Args:
        store: Result of `connect`; no other thread may use it.
        rank: Number of this process, from 0.
        count: Number of processes.
        limit_s: Seconds without a sign.
    """
    ended = threading.Event()
    watch = _Watch(store, rank, count, limit_s, ended)
    threads = [threading.Thread(target=work, daemon=True) for work in (watch.exchange, watch.end_if_silent)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(_LONGEST_PAUSE_S)  # not longer, because the store may not answer


class _Watch:
    """The counters of all processes.

    Args:
        store: Store that all processes can reach.
        rank: Number of this process.
        count: Number of processes.
        limit_s: Seconds without a sign.
        ended: Set when this process has done its part.
    """

    def __init__(self, store: Store, rank: int, count: int, limit_s: float, ended: threading.Event) -> None:
        self.store, self.rank, self.limit_s, self.ended = store, rank, limit_s, ended
        self.pause_s = min(_LONGEST_PAUSE_S, limit_s / 5)
        self.counters = {other: -1 for other in range(count) if other != rank}
        self.changed = dict.fromkeys(self.counters, time.monotonic())

    def exchange(self) -> None:
        """Count, and read the counters of the others, until this process has done its part."""
        with suppress(RuntimeError):  # the store has ended with the process or the machine that offers it
            while not self.ended.wait(self.pause_s):
                self.store.add(_key(self.rank), 1)
                for other, before in self.counters.items():
                    counter = self.store.add(_key(other), 0)
                    if counter != before:
                        self.counters[other], self.changed[other] = counter, time.monotonic()
            self.store.add(_key(self.rank), _LEFT)

    def end_if_silent(self) -> None:
        """End this process if a counter does not change. This is a thread of its own, because the store may not answer."""
        while not self.ended.wait(self.pause_s):
            silent = self._silent()
            if silent is not None:
                reason = f"process {silent} has given no sign for {self.limit_s:.0f} seconds"
                print(f"dmlbench: {reason}; run the same command again to resume", file=sys.__stderr__, flush=True)
                os._exit(1)  # the main thread waits for that process; all files are written atomically

    def _silent(self) -> int | None:
        """The first process without a sign within the limit."""
        now = time.monotonic()
        late = (other for other, at in self.changed.items() if now - at > self.limit_s and self.counters[other] < _LEFT)
        return next(late, None)


def _key(rank: int) -> str:
    return f"dmlbench/signs/{rank}"
