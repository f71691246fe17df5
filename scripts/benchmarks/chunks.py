"""Steps of a large batch in chunks: memory relative to a batch of one chunk, time relative to plain steps of the same images.

Each side is a process of its own. Memory is the growth of its peak during two steps, with the images of the batch, which are
made before. CPU seconds are those of the second step.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence

import torch

from benchmarks.timing import measure_in_process
from dmlbench.config.compose import compose, resolve
from dmlbench.config.plan import Plan
from dmlbench.losses.objective import Objective, build_objective
from dmlbench.models.embedder import Embedder, build_embedder
from dmlbench.system.memory import peak_memory_bytes
from dmlbench.training.batch_gradients import add_gradients
from dmlbench.training.environment import make_deterministic

BATCH, CHUNK, ROUNDS = 4_000, 200, 3
MEMORY_LIMIT, TIME_LIMIT = 1.2, 1.4
_SETTINGS = [
    "loss=recall_at_k",
    "trunk=mobilenet_v2",
    "trunk.weights=none",
    "protocol.image_px=64",
    "protocol.embedding_dim=128",
]


def measure(quick: bool, overrides: Sequence[str]) -> None:
    """Print the ratios of memory and CPU time.

    Args:
        quick: Measure a small batch.
        overrides: Overrides of the configuration.
    """
    batch, chunk = (80, 20) if quick else (BATCH, CHUNK)
    sizes = {"chunks": (batch, chunk, 1), "plain": (chunk, chunk, batch // chunk)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sizes}
    for _ in range(1 if quick else ROUNDS):
        for name, numbers in sizes.items():
            found[name].append(measure_in_process("chunks", *map(str, numbers), *overrides))

    def ratio(key: str) -> float:
        middle = {name: statistics.median(one[key] for one in each) for name, each in found.items()}
        return middle["chunks"] / middle["plain"]

    mib = {name: statistics.median(one["mib"] for one in each) for name, each in found.items()}
    print(
        f"chunks  batch {batch:,} in chunks of {chunk}, relative to a batch of {chunk}: memory {ratio('mib'):.2f} (at most "
        f"{MEMORY_LIMIT}; {mib['chunks']:.0f} and {mib['plain']:.0f} MiB), CPU time of {batch:,} images {ratio('seconds'):.2f} "
        f"(at most {TIME_LIMIT})",
        flush=True,
    )


def _side(batch: int, chunk: int, steps: int, overrides: Sequence[str]) -> dict[str, float]:
    """Growth of the memory in MiB, and the CPU seconds of some steps, the first not counted."""
    make_deterministic(torch.get_num_threads())
    plan, model, objective = _built([*_SETTINGS, f"protocol.batch_size={batch}", f"protocol.chunk_size={chunk}", *overrides])
    pixels, generator = plan.protocol.image_px, torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, pixels, pixels), dtype=torch.uint8, generator=generator)
    labels = torch.arange(batch) // 4
    torch.randn(64, 64) @ torch.randn(64, 64)  # loads the libraries
    before = peak_memory_bytes() / 2**20
    add_gradients(model, objective, images[: max(len(images) // 10, chunk)], labels[: max(len(images) // 10, chunk)], plan)
    began = os.times()
    for _ in range(steps):
        model.zero_grad(set_to_none=True)
        add_gradients(model, objective, images, labels, plan)
    ended = os.times()
    return {"mib": peak_memory_bytes() / 2**20 - before, "seconds": ended.user + ended.system - began.user - began.system}


def _built(overrides: Sequence[str]) -> tuple[Plan, Embedder, Objective]:
    """A model without weights, in training mode, as the settings say."""
    settings = resolve(compose(["dataset=sop", "protocol=standard", *overrides]))
    plan = Plan(
        **{name: getattr(settings, name) for name in ("dataset", "trunk", "method", "protocol", "sampler", "optimizer")},
        **{"seed": 0, "shared": {}, "fingerprint": "", "method_digest": "", "run_id": "", "runs": settings.runs_dir},
    )
    objective = build_objective(plan.method)
    assert objective is not None
    return plan, build_embedder(plan).train(), objective


if __name__ == "__main__":
    batch_, chunk_, steps_, *overrides_ = sys.argv[1:]
    print(json.dumps(_side(int(batch_), int(chunk_), int(steps_), overrides_)))
