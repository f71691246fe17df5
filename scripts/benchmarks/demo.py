"""The sweep of `make demo` after the installation, relative to the training of its jobs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.timing import wall_seconds

JOBS_AT_A_TIME = 2
LIMIT_S = 60


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the seconds of the sweep, and how many of them two cores would need for training alone.

    Args:
        quick: Train one epoch.
        overrides: Overrides of the configuration.
    """
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={JOBS_AT_A_TIME}"]
    epochs = ["protocol.epochs=1"] if quick else []
    with tempfile.TemporaryDirectory() as directory:
        paths = [f"paths.data={directory}/data", f"paths.runs={directory}/runs"]
        command = [sys.executable, "-m", "dmlbench", "sweep", *launcher, *paths, *epochs, *overrides]
        took = wall_seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        rows = [json.loads(file.read_text()) for file in Path(directory, "runs").rglob("row.json")]
    training = sum(row["train_seconds"] for row in rows) / JOBS_AT_A_TIME
    print(
        f"demo    {took:.1f} s (at most {LIMIT_S}) for {len(rows)} runs, {JOBS_AT_A_TIME} at a time; training alone "
        f"{training:.1f} s, ratio {took / training:.2f}"
    )
