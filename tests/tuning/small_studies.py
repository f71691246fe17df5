"""Small studies on the digits, through the command line, for the tests of tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dmlbench.cli import run
from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row
from dmlbench.tuning.trials import read_trials

SMALL = [
    "protocol.batch_size=24",
    "protocol.embedding_dim=8",
    "protocol.lr=0.003",
    "loss.samples_per_class=3",
    "trunk.make.channels=[4,8]",
    "protocol.epochs=2",
]
DIGITS = [
    "dataset=digits",
    "dataset.make.images_per_class=6",
    "dataset.train_images=150",
    "dataset.query_images=150",
    "dataset.gallery_images=150",
    *SMALL,
]


def overrides(data: Path, runs: Path, *more: str) -> list[str]:
    """The overrides of a small run. The loss is `triplet` unless another one is given."""
    loss = [] if any(one.startswith("loss=") for one in more) else ["loss=triplet"]
    return [*loss, *DIGITS, *more, f"paths.data={data}", f"paths.runs={runs}"]


def tuned(data: Path, runs: Path, *more: str) -> Path:
    """Run `dmlbench tune`, and return the directory of the study."""
    assert run(["tune", *overrides(data, runs, *more)]) == 0
    [folder] = runs.glob("*/*/tune-*")
    return folder


def trials(folder: Path) -> list[dict[str, Any]]:
    """The finished trials of a study, without the fields that depend on time and on interruptions."""
    found = read_trials(folder, range(1, 100))
    return [{key: value for key, value in vars(one).items() if key not in ("seconds", "n_resumed")} for one in found]


def row_of(runs: Path, loss: str = "triplet", seed: int = 0) -> Row:
    [row] = [row for row in map(read_row, find_rows(runs)) if (row["loss"], row["seed"]) == (loss, seed)]
    return row
