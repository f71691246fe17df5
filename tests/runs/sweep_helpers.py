"""Functions of the tests that run sweeps: tiny overrides, subprocesses, rows, and losses that end their process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row, read_rows
from dmlbench.tables.formats import markdown
from dmlbench.tables.table import compare

# 16 classes of 8 images of 16 pixels, half of them for training: 4 steps per epoch, a run takes about a quarter of a second.
TINY = [
    *("dataset=synthetic", "dataset.make.classes=16", "dataset.make.images_per_class=8", "dataset.make.image_px=16"),
    *("protocol.epochs=3", "protocol.batch_size=16", "protocol.embedding_dim=8", "trunk.make.channels=[4,8]"),
]

# A loss that kills its process in the middle of the second epoch, unless it has done so before. Its code, which is part of the
# identity of the run, is the same in every directory.
_DIE_ONCE = """\
import os
import signal
from pathlib import Path

import torch

calls = 0


class Loss(torch.nn.Module):
    def forward(self, embeddings, labels):
        global calls
        calls += 1
        if calls == 6 and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return (embeddings @ embeddings.T)[labels[:, None] != labels[None]].mean()
"""


def write_loss(directory: Path, name: str, code: str) -> list[str]:
    """Write a loss of the user into a directory; return the overrides that choose it."""
    (directory / "conf" / "loss").mkdir(parents=True, exist_ok=True)
    (directory / "conf" / f"{name}.py").write_text(code)
    text = f"label: {name}\nkind: pair\nmake: {{_target_: {name}.Loss}}\n"
    (directory / "conf" / "loss" / f"{name}.yaml").write_text(text)
    return ["--config-dir", str(directory / "conf")]


def write_mortal_loss(directory: Path, dies: bool = True) -> list[str]:
    """Write a loss `mortal` that kills its process once, in the second epoch, if the command runs in the directory.

    Args:
        directory: Working directory of the command.
        dies: Whether it does; False writes the same loss, which has died already.
    """
    if not dies:
        (directory / "died").touch()
    return write_loss(directory, "mortal", _DIE_ONCE)


def start(directory: Path, *argv: str) -> subprocess.Popen[str]:
    """Start a command in a directory."""
    command = [sys.executable, "-m", "dmlbench", *argv]
    return subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for a command and return its output."""
    output, _ = process.communicate(timeout=400)
    assert process.returncode == status, output
    return output


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until a condition holds; the process has to be running until then."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


def rows_by_loss(directory: Path) -> dict[str, Row]:
    """The rows of a directory's runs, one per loss."""
    return {str(row["loss"]): row for row in map(read_row, find_rows(directory / "runs"))}


def table_of(directory: Path) -> str:
    """The table of a directory's rows, without cost."""
    return markdown(compare(read_rows(directory / "runs")[0], cost=False))


def descendants(pid: int, part: str = "") -> list[int]:
    """The processes below one, whose command line contains a text."""
    found = []
    for child in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(child.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            command = child.joinpath("cmdline").read_text()
        except (OSError, IndexError):
            continue
        if parent == pid:
            found += [int(child.name)] * (part in command) + descendants(int(child.name), part)
    return found
