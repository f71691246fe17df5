"""One side of `bench.py evaluate`, in a process of its own: prints its CPU and wall seconds and the memory it took, as JSON.

python scripts/bench_evaluate.py SIDE SET DIM

SIDE is `floor` (the product of all embeddings with each other, 1,024 queries at a time into a buffer whose rows are a
multiple of 16 floats), `ours` (every retrieval metric, ties and all) or `peer` (pytorch-metric-learning's
AccuracyCalculator with faiss: R@1, R-precision and MAP@R). SET gives the size and the classes: `cub`, `cars`, `sop`.
The embeddings are made up: superclasses, classes and noise such that R@1 is about .7 to .8, as trained ones have it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

SETS = {"cub": (5_924, 100), "cars": (8_131, 98), "sop": (60_502, 11_316)}
KS = {"cub": (1, 2, 4, 8), "cars": (1, 2, 4, 8), "sop": (1, 10, 100, 1000)}
NOISE = {("cub", 512): 4.2, ("cars", 512): 4.2, ("sop", 128): 1.95, ("sop", 512): 3.1}
THREADS = 2


def labels_of(name: str) -> torch.Tensor:
    """Class sizes like the data set's: even for CUB and Cars, 2 to 12 for SOP."""
    n, n_classes = SETS[name]
    if name != "sop":
        return torch.arange(n) % n_classes
    generator = torch.Generator().manual_seed(0)
    sizes = (2 + torch.poisson(torch.full((n_classes,), 3.35), generator=generator)).clamp(max=12).long()
    while sizes.sum() != n:
        step = 1 if sizes.sum() < n else -1
        allowed = ((sizes + step >= 2) & (sizes + step <= 12)).nonzero().squeeze(1)
        some = allowed[torch.randperm(len(allowed), generator=generator)[: abs(int(n - sizes.sum()))]]
        sizes[some] += step
    return torch.repeat_interleave(sizes)


def embeddings_of(name: str, dim: int, labels: torch.Tensor) -> torch.Tensor:
    """Unit vectors, `(N, dim)`."""
    generator = torch.Generator().manual_seed(1)
    n_classes = SETS[name][1]
    families = torch.randn(n_classes // 10 + 1, dim, generator=generator)
    centres = families[torch.arange(n_classes) % len(families)] + torch.randn(n_classes, dim, generator=generator)
    noise = torch.randn(len(labels), dim, generator=generator)
    return torch.nn.functional.normalize(centres[labels] + NOISE[name, dim] * noise, dim=1)


def floor(x: torch.Tensor, labels: torch.Tensor, ks: tuple[int, ...]) -> None:
    """The product alone."""
    rows = 1024
    buffer = torch.empty(rows, -(-len(x) // 16) * 16)
    for part in x.split(rows):
        torch.mm(part, x.T, out=buffer[: len(part), : len(x)])


def ours(x: torch.Tensor, labels: torch.Tensor, ks: tuple[int, ...]) -> dict[str, float]:
    """Everything a row says of retrieval."""
    from dmlbench.evaluation import rank, score

    ids = torch.arange(len(x))
    return score(rank(x, x, labels, labels, ids, ids, depth=10), ks)


def peer(x: torch.Tensor, labels: torch.Tensor, ks: tuple[int, ...]) -> dict[str, float]:
    """The calculator as its documentation shows it."""
    import faiss
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    faiss.omp_set_num_threads(THREADS)
    include = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    return AccuracyCalculator(include=include, k="max_bin_count", device=torch.device("cpu")).get_accuracy(x, labels)


SIDES: dict[str, Callable[..., dict[str, float] | None]] = {"floor": floor, "ours": ours, "peer": peer}


def resident(kind: str) -> int:
    """Bytes of this process in memory: `VmRSS` now, `VmHWM` at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def main(side: str, name: str, dim: int) -> None:
    """Measure one side once, after a small run that loads its libraries."""
    torch.set_num_threads(THREADS)
    labels = labels_of(name)
    x = embeddings_of(name, dim, labels)
    few = torch.arange(400) % 20
    SIDES[side](torch.nn.functional.normalize(torch.randn(400, dim), dim=1), few, KS["cub"])
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    cpu, wall = time.process_time(), time.perf_counter()
    found = SIDES[side](x, labels, KS[name])
    measured = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "memory": resident("VmHWM") - before}
    numbers = {key: value for key, value in (found or {}).items() if key in ("recall_at_1", "precision_at_1", "map_at_r")}
    print(json.dumps(measured | numbers))


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
