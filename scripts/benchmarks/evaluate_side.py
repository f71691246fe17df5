"""One side of the benchmark `evaluate`, in a separate process.

    python -m benchmarks.evaluate_side SIDE SET DIM THREADS

SIDE is `product` (the product of all embeddings with each other, 1,024 queries at a time, into a buffer whose rows are a
multiple of 16 floats), `ours` (all retrieval metrics, with ties) or `peer` (AccuracyCalculator of pytorch-metric-learning with
faiss: R@1, R-precision and MAP@R). SET is `cub`, `cars` or `sop`. Prints CPU seconds, wall seconds and bytes as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.embeddings import KS, embeddings_of, labels_of

ROWS = 1024  # queries per matrix product


def product(x: torch.Tensor, labels: torch.Tensor, ks: tuple[int, ...]) -> None:
    """Compute the matrix product alone.

    Args:
        x: float32 `(N, D)`.
        labels: Not used.
        ks: Not used.
    """
    buffer = torch.empty(ROWS, -(-len(x) // 16) * 16)
    for part in x.split(ROWS):
        torch.mm(part, x.T, out=buffer[: len(part), : len(x)])


def ours(x: torch.Tensor, labels: torch.Tensor, ks: tuple[int, ...]) -> dict[str, float]:
    """Compute all retrieval metrics of a row.

    Args:
        x: float32 `(N, D)`.
        labels: int64 `(N,)`.
        ks: Values of k.
    """
    from dmlbench.evaluation import rank, score

    ids = torch.arange(len(x))
    return score(rank(x, x, labels, labels, ids, ids, depth=10), ks)


def peer(x: torch.Tensor, labels: torch.Tensor, ks: tuple[int, ...]) -> dict[str, float]:
    """Use the calculator of pytorch-metric-learning as in its documentation.

    Args:
        x: float32 `(N, D)`.
        labels: int64 `(N,)`.
        ks: Not used.
    """
    import faiss
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    faiss.omp_set_num_threads(torch.get_num_threads())
    include = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=include, k="max_bin_count", device=torch.device("cpu"))
    found: dict[str, float] = calculator.get_accuracy(x, labels)
    return found


SIDES: dict[str, Callable[..., dict[str, float] | None]] = {"product": product, "ours": ours, "peer": peer}


def resident(kind: str) -> int:
    """Return the memory of this process in bytes.

    Args:
        kind: `VmRSS` for the current value, `VmHWM` for the peak.
    """
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def main(side: str, name: str, dim: int, n_threads: int) -> None:
    """Measure one side once, after a small evaluation that loads its libraries.

    Args:
        side: One of `SIDES`.
        name: Data set.
        dim: Size of the embeddings.
        n_threads: Number of threads.
    """
    torch.set_num_threads(n_threads)
    labels = labels_of(name)
    x = embeddings_of(name, dim, labels)
    few = torch.arange(400) % 20
    SIDES[side](torch.nn.functional.normalize(torch.randn(400, dim), dim=1), few, KS["cub"])
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    cpu, wall = time.process_time(), time.perf_counter()
    found = SIDES[side](x, labels, KS[name])
    measured = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "memory": resident("VmHWM") - before}
    numbers = {key: value for key, value in (found or {}).items() if key in ("recall_at_1", "precision_at_1", "map_at_r")}
    print(json.dumps(measured | numbers))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
