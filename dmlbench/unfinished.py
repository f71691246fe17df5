"""Floor 1: why a run has no row, as far as its folder tells."""

from __future__ import annotations

from pathlib import Path

from dmlbench.locks import is_held

ERROR = "error.txt"  # the traceback of an accident
LOCK = ".lock"  # held by the process that is at the run
RUNNING = "it is being run"

_TRACEBACK = "Traceback (most recent call last):\n"


def why_unfinished(folder: Path) -> str:
    """A clause: the run is going on, met an accident, or just ended before its time.

    Args:
        folder: the run's.
    """
    if is_held(folder / LOCK):
        return RUNNING
    try:
        text = (folder / ERROR).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "not finished"
    # Of the last traceback the first line that is not indented is the error; its text may go on.
    lines = text.rpartition(_TRACEBACK)[2].splitlines()
    said = next((line for line in lines if line.strip() and not line[0].isspace()), "of an unknown kind")
    return f"accident: {said[:200]}"
