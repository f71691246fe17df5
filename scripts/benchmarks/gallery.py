"""Memory of `dmlbench evaluate` for a gallery that stays on disk, above that of its imports."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

DIM, N_CLASSES = 128, 50_000
# The memory is read in the new process: ru_maxrss would start at the memory of the process that started it.
PROGRAM = """
import sys
import torch, scipy.sparse, sklearn.cluster, hydra, pandas, safetensors.torch
import dmlbench.runs.reevaluate, dmlbench.runs.external, dmlbench.cli.errors
from dmlbench.cli import run

def memory(kind):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(kind)) / 1024

before = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
status = run(["evaluate", sys.argv[1], "--runs", sys.argv[2], "--ks", "1,10,100,1000"])
print(status, memory("VmHWM") - before)
"""


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the metrics, the time and the memory of a search.

    Args:
        quick: Use a gallery of 20,000 instead of a million embeddings.
        overrides: Not used.
    """
    n, n_queries = (20_000, 100) if quick else (1_000_000, 1_000)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "gallery.npy"
        write_gallery(file, n, n_queries)
        began = time.perf_counter()
        command = [sys.executable, "-c", PROGRAM, str(file), f"{directory}/runs"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print("gallery " + done.stdout.splitlines()[0].split("  (")[0])
        status, mebibytes = done.stdout.splitlines()[-1].split()
        seconds = time.perf_counter() - began
        print(f"gallery status {status}, {seconds:.0f} s, {float(mebibytes):.0f} MiB above the imports (at most 512)")


def write_gallery(file: Path, n: int, n_queries: int) -> None:
    """Write generated embeddings, and their labels and roles as a CSV file.

    Args:
        file: File of the embeddings, `.npy`.
        n: Size of the gallery.
        n_queries: Number of queries.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(0, N_CLASSES, n + n_queries)
    centres = generator.standard_normal((N_CLASSES, DIM), dtype=np.float32)
    values = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(n + n_queries, DIM))
    for start in range(0, len(values), 2**16):
        part = slice(start, start + 2**16)
        values[part] = centres[labels[part]] + 1.5 * generator.standard_normal(values[part].shape, dtype=np.float32)
    values.flush()
    is_query = (np.arange(n + n_queries) >= n).astype(int)
    lines = (f"{label},{query},{1 - query}" for label, query in zip(labels, is_query, strict=True))
    file.with_suffix(".csv").write_text("labels,is_query,is_gallery\n" + "\n".join(lines) + "\n")
