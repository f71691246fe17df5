"""All retrieval metrics, relative to the matrix product alone and to pytorch-metric-learning with faiss.

Each side is a separate process; CPU seconds, wall seconds and memory are those of the evaluation alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.timing import measure_in_process
from dmlbench.training.environment import cpu_columns

SIDES = ("product", "ours", "peer")
THREADS = (1, 2)
QUANTITIES = (("cpu", "s", 1), ("wall", "s", 1), ("memory", "MiB", 2**20))


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print CPU time, wall time and memory of the three sides with 1 and 2 threads, and their ratios.

    Args:
        quick: Measure one round at the size of CUB.
        overrides: Not used.
    """
    rounds, settings = 3, (("cub", 512), ("cars", 512), ("sop", 128), ("sop", 512))
    if quick:
        rounds, settings = 1, settings[:1]
    print("evaluate: " + ", ".join(f"{name} {value}" for name, value in cpu_columns().items()))
    for n_threads in THREADS:
        for name, dim in settings:
            _measure_setting(name, dim, n_threads, rounds)


def _measure_setting(name: str, dim: int, n_threads: int, rounds: int) -> None:
    """Measure the sides in turn, and print the medians."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, runs in found.items():
            arguments, environment = (side, name, str(dim), str(n_threads)), {"OMP_NUM_THREADS": str(n_threads)}
            runs.append(measure_in_process("evaluate_side", *arguments, environment=environment))
    title = f"evaluate {name} x {dim}, {n_threads} threads:"
    print(f"{title} R@1 {found['ours'][0]['recall_at_1']:.3f}, peer {found['peer'][0]['precision_at_1']:.3f}")
    for quantity, unit, scale in QUANTITIES:
        values = {side: statistics.median(run[quantity] for run in runs) / scale for side, runs in found.items()}
        numbers = ", ".join(f"{side} {value:.2f} {unit}" for side, value in values.items())
        ratios = (values["ours"] / values["product"], values["peer"] / values["ours"])
        print(f"{title} {quantity:6} {numbers}; ours / product {ratios[0]:.2f}, peer / ours {ratios[1]:.2f}", flush=True)
