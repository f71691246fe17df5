"""`dmlbench evaluate` of a small file, start-up included, relative to a script with pytorch-metric-learning and faiss."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.timing import alternate, cpu_seconds

PEER = """
import sys
import numpy, torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
file = numpy.load(sys.argv[1])
include = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "NMI", "AMI")
calculator = AccuracyCalculator(include=include, k="max_bin_count", device=torch.device("cpu"))
print(calculator.get_accuracy(torch.from_numpy(file["embeddings"]), torch.from_numpy(file["labels"])))
"""


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the CPU seconds of both commands and their ratio.

    Args:
        quick: Use one round.
        overrides: Not used.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(2_000) % 50
    centres = generator.normal(size=(50, 64))
    embeddings = (centres[labels] + generator.normal(size=(2_000, 64))).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        file, script = Path(directory, "theirs.npz"), Path(directory, "peer.py")
        np.savez(file, embeddings=embeddings, labels=labels)
        script.write_text(PEER)
        ours = [sys.executable, "-m", "dmlbench", "evaluate", str(file), "--runs", f"{directory}/runs"]
        theirs = [sys.executable, str(script), str(file)]
        subprocess.run(theirs, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took = alternate(1 if quick else 5, ours=lambda: cpu_seconds(ours), peer=lambda: cpu_seconds(theirs))
    print(f"file    2,000 embeddings of 64 dimensions: dmlbench {took['ours']:.2f} CPU s, peer {took['peer']:.2f} CPU s")
    print(f"file    ratio {took['ours'] / took['peer']:.2f} (at most 1)")
