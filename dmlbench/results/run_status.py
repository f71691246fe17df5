"""Find out from a run directory why the run has no row."""

from __future__ import annotations

from pathlib import Path

from dmlbench.results import run_files
from dmlbench.system.locks import is_held
from dmlbench.system.regular_files import read_text

RUNNING = "running"
_TRACEBACK = "Traceback (most recent call last):\n"


def run_status(folder: Path) -> str:
    """Return why a run has no row: it is running, crashed, or was interrupted.

    Args:
        folder: Run directory without a row.
    """
    if is_held(folder / run_files.LOCK):
        return RUNNING
    try:
        text = read_text(folder / run_files.ERROR, errors="replace")
    except FileNotFoundError:
        return "not finished"
    except OSError as error:
        return f"not finished; {run_files.ERROR} cannot be read: {error.strerror}"
    # The error is the first line of the last traceback that is not indented; its message may continue below.
    lines = text.rpartition(_TRACEBACK)[2].splitlines()
    first = next((line for line in lines if line.strip() and not line[0].isspace()), "unknown error")
    return f"crashed: {first[:200]}"
