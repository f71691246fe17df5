"""Functions of the tests of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dmlbench.cli import run

# Type of the fixture `photos`, which writes a directory of images.
Photos = Callable[..., Path]
# A run on images of a few pixels with a tiny network takes about a quarter of a second.
TINY = (
    *("protocol=quick", "trunk=convnet", "trunk.make.channels=[4,8]"),
    *("protocol.epochs=1", "protocol.batch_size=8", "protocol.embedding_dim=8"),
)


def on_photos(root: Path, *overrides: str) -> list[str]:
    """Overrides of a tiny run on a directory of images."""
    return ["dataset=folder", f"dataset.root={root}", *TINY, *overrides]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must be refused: status 2, one sentence, no traceback, no run; return the sentence."""
    assert run(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("dmlbench: ")
    assert not rows_below(Path("runs"))
    return captured.err.removeprefix("dmlbench: ").strip()


def rows_below(directory: Path | str) -> list[dict[str, Any]]:
    """All rows below a directory, ordered by path."""
    return [json.loads(file.read_text()) for file in sorted(Path(directory).rglob("row.json"))]


def write_own_loss(name: str, code: str, yaml: str = "", config_dir: str = "mine") -> None:
    """Write a loss of the user: the class `Loss` in the module `<name>.py`, and its configuration file."""
    Path(f"{name}.py").write_text(f"import torch\n\n\nclass Loss(torch.nn.Module):\n{code}")
    write_config(f"{config_dir}/loss/{name}.yaml", yaml or f"label: {name}\nkind: pair\nmake: {{_target_: {name}.Loss}}\n")


def write_config(file: str, text: str) -> None:
    """Write a configuration file, with its directory."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)
