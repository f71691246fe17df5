"""Signals that end a command: one sentence, and the exit status 128 + signal.

Until a command has work that needs to be unwound, a signal ends the process at once: an exception during an import may be
caught, or turned into another one, by the imported library. Later it raises `Interrupted`.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def handle_signals() -> None:
    """End the process at once on each signal of `SIGNALS`, except on those that the parent process ignores (`nohup`)."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _exit)


def raise_on_signals() -> None:
    """Raise `Interrupted` from now on, if `handle_signals` was called. A second signal ends the process at once."""
    for number in SIGNALS:
        if signal.getsignal(number) is _exit and not _received:
            signal.signal(number, _raise)


def received_signal() -> int | None:
    """Return the number of the first signal that was raised; None if there was none."""
    return _received[0] if _received else None


def sentence(number: int) -> str:
    """Return the sentence that says why a command ended.

    Args:
        number: Number of the signal.
    """
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


def _exit(number: int, frame: FrameType | None) -> None:
    os.write(2, f"dmlbench: {sentence(number)}\n".encode())
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    for other in SIGNALS:
        if signal.getsignal(other) is _raise:
            signal.signal(other, _exit)
    raise Interrupted(number)
