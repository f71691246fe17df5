"""Training in several processes, relative to one: images per second, and the difference of the rows.

Each side is started by torchrun. A process computes with `protocol.threads` CPU threads, so two processes need two cores.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dmlbench.results.row import Row
from dmlbench.results.row_files import find_rows, read_row

LOSSES = ("contrastive", "triplet", "proxy_nca", "softtriple", "multi_similarity", "cosface", "arcface")
PROCESSES, ROUNDS, FASTER = 2, 3, 1.7
_SPEED = ["protocol.epochs=6"]


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the ratio of images per second, and how much the rows of seven losses differ.

    Args:
        quick: Train a tiny data set once.
        overrides: Overrides of the configuration.
    """
    small = ["dataset=synthetic", "protocol.epochs=2"] if quick else []
    with tempfile.TemporaryDirectory() as directory:
        speeds: dict[int, list[float]] = {1: [], PROCESSES: []}
        for number in range(1 if quick else ROUNDS):
            for count, found in speeds.items():
                place = Path(directory) / f"speed-{number}-{count}"
                [row] = _rows(place, count, ["train", "loss=contrastive", *_SPEED, *small, *overrides])
                found.append(row.number("images_per_second") or 0.0)
        one, several = (statistics.median(each) for each in speeds.values())
        sweep = ["sweep", f"loss={','.join(LOSSES[:2] if quick else LOSSES)}", *small, *overrides]
        differences = _differences(*(_rows(Path(directory) / f"rows-{count}", count, sweep) for count in speeds))
    print(
        f"processes  {PROCESSES} processes, relative to one: {several / one:.2f} times the images per second (at least "
        f"{FASTER}; {several:,.0f} and {one:,.0f}); rows of {len(differences)} methods differ by at most "
        f"{100 * max(differences.values()):.2f} points of MAP@R "
        f"({', '.join(f'{name} {100 * value:.2f}' for name, value in differences.items())})",
        flush=True,
    )


def _rows(directory: Path, count: int, command: Sequence[str]) -> list[Row]:
    directory.mkdir()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "dmlbench"]
    shared = f"paths.data={directory.parent / 'data'}"
    subprocess.run([*launcher, *command, shared], cwd=directory, env=environment, check=True, stdout=subprocess.DEVNULL)
    return [read_row(file) for file in find_rows(directory / "runs")]


def _differences(alone: Sequence[Row], together: Sequence[Row]) -> dict[str, float]:
    """The difference of MAP@R by method, as fractions; methods that train nothing are left out."""
    expected = {str(row["loss"]): row.number("map_at_r") or 0.0 for row in alone if row["loss_kind"] != "none"}
    found = {str(row["loss"]): row.number("map_at_r") or 0.0 for row in together if row["loss_kind"] != "none"}
    return {name: abs(found[name] - value) for name, value in expected.items()}
