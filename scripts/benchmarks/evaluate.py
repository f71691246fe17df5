"""All retrieval metrics, relative to the matrix product alone and to pytorch-metric-learning with faiss.

Each side is a separate process; CPU seconds, wall seconds and memory are those of the evaluation alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.timing import measure_in_process

SIDES = ("product", "ours", "peer")
QUANTITIES = (("cpu", "s", 1), ("wall", "s", 1), ("memory", "MiB", 2**20))


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print CPU time, wall time and memory of the three sides, and their ratios.

    Args:
        quick: Measure one round at the size of CUB.
        overrides: Not used.
    """
    rounds, settings = 3, (("cub", 512), ("cars", 512), ("sop", 128), ("sop", 512))
    if quick:
        rounds, settings = 1, settings[:1]
    for name, dim in settings:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side, runs in found.items():
                runs.append(measure_in_process("evaluate_side", side, name, str(dim), environment={"OMP_NUM_THREADS": "2"}))
        title = f"evaluate {name} x {dim}:"
        print(f"{title} R@1 {found['ours'][0]['recall_at_1']:.3f}, peer {found['peer'][0]['precision_at_1']:.3f}")
        for quantity, unit, scale in QUANTITIES:
            values = {side: statistics.median(run[quantity] for run in runs) / scale for side, runs in found.items()}
            numbers = ", ".join(f"{side} {value:.2f} {unit}" for side, value in values.items())
            ratios = (values["ours"] / values["product"], values["peer"] / values["ours"])
            print(f"{title} {quantity:6} {numbers}; ours / product {ratios[0]:.2f}, peer / ours {ratios[1]:.2f}", flush=True)
